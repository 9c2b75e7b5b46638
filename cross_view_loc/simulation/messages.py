"""ROS messages of a simulated drive, built with the `rosbags` types: no ROS installation needed."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rosbags.typesys import Stores, get_typestore

from cross_view_loc.geometry.transforms import to_quaternion
from cross_view_loc.simulation.rig import RigCamera

Array = NDArray[np.float64]

TYPESTORE = get_typestore(Stores.ROS2_JAZZY)
_TYPES: Any = TYPESTORE.types

JPEG_QUALITY = 92


def header(stamp_ns: int, frame: str) -> Any:
    """std_msgs/Header."""
    seconds, nanoseconds = divmod(int(stamp_ns), 1_000_000_000)
    stamp = _TYPES["builtin_interfaces/msg/Time"](sec=seconds, nanosec=nanoseconds)
    return _TYPES["std_msgs/msg/Header"](stamp=stamp, frame_id=frame)


def encode_jpeg(image_rgb: NDArray[np.uint8]) -> bytes:
    """JPEG bytes of an (H, W, 3) RGB image."""
    done, data = cv2.imencode(".jpg", image_rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not done:
        raise RuntimeError("OpenCV was built without its JPEG encoder")
    return bytes(data)


def compressed_image(stamp_ns: int, frame: str, image_rgb: NDArray[np.uint8]) -> Any:
    """sensor_msgs/CompressedImage holding a JPEG."""
    data = np.frombuffer(encode_jpeg(image_rgb), dtype=np.uint8)
    return _TYPES["sensor_msgs/msg/CompressedImage"](header=header(stamp_ns, frame), format="jpeg", data=data)


def camera_info(stamp_ns: int, camera: RigCamera, distortion: tuple[float, ...] = ()) -> Any:
    """sensor_msgs/CameraInfo; K follows OpenCV, where the centre of the first pixel is 0, hence the half pixel less.

    `distortion`: up to five coefficients of plumb_bob, four of a fisheye's equidistant; P is that of the same pinhole
    without them (a fisheye has none). A panorama says distortion_model "equirectangular" and has no K.
    """
    K, P = np.zeros((3, 3)), np.zeros((3, 4))
    if camera.focal_px is not None:
        K = np.array(
            [
                [camera.focal_px, 0.0, camera.width / 2 - 0.5],
                [0.0, camera.focal_px, camera.height / 2 - 0.5],
                [0.0, 0.0, 1.0],
            ]
        )
        P[:, :3] = 0.0 if camera.is_fisheye else K
    model, count = ("equidistant", 4) if camera.is_fisheye else ("plumb_bob", 5)
    if camera.focal_px is None:
        model, count = "equirectangular", 0
    return _TYPES["sensor_msgs/msg/CameraInfo"](
        header=header(stamp_ns, camera.optical_frame),
        height=camera.height,
        width=camera.width,
        distortion_model=model,
        d=np.array([*distortion, *[0.0] * (count - len(distortion))]),
        k=K.ravel(),
        r=np.eye(3).ravel(),
        p=P.ravel(),
        binning_x=0,
        binning_y=0,
        roi=_TYPES["sensor_msgs/msg/RegionOfInterest"](x_offset=0, y_offset=0, height=0, width=0, do_rectify=False),
    )


def nav_sat_fix(
    stamp_ns: int, frame: str, latitude_deg: float, longitude_deg: float, height_m: float, covariance: Array
) -> Any:
    """sensor_msgs/NavSatFix with a (3, 3) covariance in m² (east, north, up)."""
    status_type, fix_type = _TYPES["sensor_msgs/msg/NavSatStatus"], _TYPES["sensor_msgs/msg/NavSatFix"]
    services = status_type.SERVICE_GPS | status_type.SERVICE_GLONASS | status_type.SERVICE_GALILEO
    return fix_type(
        header=header(stamp_ns, frame),
        status=status_type(status=status_type.STATUS_FIX, service=services),
        latitude=float(latitude_deg),
        longitude=float(longitude_deg),
        altitude=float(height_m),
        position_covariance=np.ascontiguousarray(covariance, dtype=np.float64).ravel(),
        position_covariance_type=fix_type.COVARIANCE_TYPE_DIAGONAL_KNOWN,
    )


def imu(
    stamp_ns: int,
    frame: str,
    R_map_imu: Array,
    angular_velocity: Array,
    linear_acceleration: Array,
    orientation_std_rad: tuple[float, float, float],
    gyro_std_rad_s: float,
    accelerometer_std_m_s2: float,
) -> Any:
    """sensor_msgs/Imu; the orientation's standard deviations are about x, y, z."""
    return _TYPES["sensor_msgs/msg/Imu"](
        header=header(stamp_ns, frame),
        orientation=quaternion(R_map_imu),
        orientation_covariance=np.diag(np.square(orientation_std_rad)).ravel(),
        angular_velocity=_vector(angular_velocity),
        angular_velocity_covariance=(np.eye(3) * gyro_std_rad_s**2).ravel(),
        linear_acceleration=_vector(linear_acceleration),
        linear_acceleration_covariance=(np.eye(3) * accelerometer_std_m_s2**2).ravel(),
    )


def odometry(
    stamp_ns: int,
    parent: str,
    child: str,
    T_parent_child: Array,
    linear_velocity: Array,
    angular_velocity: Array,
    pose_std: tuple[float, ...],
    twist_std: tuple[float, ...],
) -> Any:
    """nav_msgs/Odometry; the twist is in the child frame, the deviations are of x y z (m), rotX rotY rotZ (rad)."""
    point = _TYPES["geometry_msgs/msg/Point"](*map(float, T_parent_child[:3, 3]))
    pose = _TYPES["geometry_msgs/msg/Pose"](position=point, orientation=quaternion(T_parent_child[:3, :3]))
    twist = _TYPES["geometry_msgs/msg/Twist"](linear=_vector(linear_velocity), angular=_vector(angular_velocity))
    return _TYPES["nav_msgs/msg/Odometry"](
        header=header(stamp_ns, parent),
        child_frame_id=child,
        pose=_TYPES["geometry_msgs/msg/PoseWithCovariance"](pose=pose, covariance=_diagonal(pose_std)),
        twist=_TYPES["geometry_msgs/msg/TwistWithCovariance"](twist=twist, covariance=_diagonal(twist_std)),
    )


def tf_message(stamp_ns: int, edges: list[tuple[str, str, Array]]) -> Any:
    """tf2_msgs/TFMessage of (parent, child, T_parent_child) edges."""
    transforms = [
        _TYPES["geometry_msgs/msg/TransformStamped"](
            header=header(stamp_ns, parent),
            child_frame_id=child,
            transform=_TYPES["geometry_msgs/msg/Transform"](
                translation=_vector(T_parent_child[:3, 3]), rotation=quaternion(T_parent_child[:3, :3])
            ),
        )
        for parent, child, T_parent_child in edges
    ]
    return _TYPES["tf2_msgs/msg/TFMessage"](transforms=transforms)


def quaternion(R: Array) -> Any:
    """geometry_msgs/Quaternion of a (3, 3) rotation."""
    return _TYPES["geometry_msgs/msg/Quaternion"](*map(float, to_quaternion(R)))


def _vector(values: Array) -> Any:
    return _TYPES["geometry_msgs/msg/Vector3"](*map(float, values))


def _diagonal(std: tuple[float, ...]) -> Array:
    return np.diag(np.square(std)).astype(np.float64).ravel()
