"""package.xml, setup.py, constraints.txt and the Makefile say the same, for colcon and for pip."""

import ast
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

import cross_view_loc

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(not (ROOT / "setup.py").exists(), reason="needs the source folder")


def arguments_of_setup(*words: str) -> dict:
    """What setup.py hands to setuptools when called with these words, without building anything."""
    script = (
        "import sys, setuptools, runpy; caught = {}\n"
        "setuptools.setup = lambda **given: caught.update(given)\n"
        f"sys.argv = ['setup.py', *{list(words)!r}]\n"
        "runpy.run_path('setup.py'); print(repr(caught))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return ast.literal_eval(done.stdout)


@pytest.fixture(scope="module")
def setup() -> dict:
    return arguments_of_setup("bdist_wheel")


@pytest.fixture(scope="module")
def manifest() -> ElementTree.Element:
    return ElementTree.parse(ROOT / "package.xml").getroot()


def requirement_name(text: str) -> str:
    return re.split(r"[<>=;! \[]", text.strip())[0].lower().replace("_", "-")


def test_name_version_and_licence_agree(setup, manifest):
    assert manifest.get("format") == "3"
    assert setup["name"] == manifest.findtext("name") == "cross_view_loc"
    assert setup["version"] == manifest.findtext("version") == cross_view_loc.__version__
    assert setup["license"] == manifest.findtext("license") == "Apache-2.0"
    assert setup["maintainer_email"] == manifest.find("maintainer").get("email")
    assert "Apache License" in (ROOT / manifest.find("license").get("file")).read_text(encoding="utf-8")
    assert manifest.find("export").findtext("build_type") == "ament_python"


def test_ament_finds_the_package(setup):
    installed = {target: files for target, files in setup["data_files"]}
    assert installed["share/ament_index/resource_index/packages"] == ["resource/cross_view_loc"]
    assert "package.xml" in installed["share/cross_view_loc"]
    assert "config/localizer.yaml" in installed["share/cross_view_loc/config"]
    assert "config/fastdds_profile.xml" in installed["share/cross_view_loc/config"]
    assert "launch/localizer.launch.py" in installed["share/cross_view_loc/launch"]
    for files in installed.values():
        assert all((ROOT / file).is_file() for file in files)


def test_every_package_of_the_source_is_installed(setup):
    folders = {path.parent for path in (ROOT / "cross_view_loc").rglob("*.py")}
    assert {".".join(folder.relative_to(ROOT).parts) for folder in folders} == set(setup["packages"])


@pytest.mark.parametrize(
    "words, for_ros2_run",
    [
        (["egg_info", "--egg-base", "b", "build", "install", "--record", "r"], True),
        (["develop", "--editable", "--build-directory", "b", "--no-deps"], True),
        (["install", "--prefix", "p"], True),
        (["bdist_wheel"], False),
        (["egg_info", "--egg-base", "b"], False),
        (["install", "--record", "r", "--single-version-externally-managed"], False),
        (["develop", "--no-deps"], False),
    ],
)
def test_commands_go_where_ros2_run_looks_only_for_colcon(words, for_ros2_run):
    folder = arguments_of_setup(*words)["options"].get("install", {}).get("install_scripts", "")
    assert folder == ("$base/lib/cross_view_loc" if for_ros2_run else "")


def test_entry_points_exist(setup):
    for line in setup["entry_points"]["console_scripts"]:
        name, target = (part.strip() for part in line.split("="))
        module, function = target.split(":")
        assert name in ("cross_view_loc", "localizer", "check_map_origin")
        tree = ast.parse((ROOT / (module.replace(".", "/") + ".py")).read_text(encoding="utf-8"))
        assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_colcon_finds_the_tests_and_constraints_cover_every_requirement(setup):
    assert any(requirement_name(text) == "pytest" for text in setup["extras_require"]["test"])
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {requirement_name(line) for line in lines if line and not line.startswith("#")}
    wanted = {requirement_name(text) for extra in setup["extras_require"].values() for text in extra}
    wanted |= {requirement_name(text) for text in setup["install_requires"]}
    assert wanted - pinned == set()
    assert "torch==2.13.0" in lines
    assert "setuptools<81" in lines


def test_core_requirements_have_their_rosdep_keys(setup, manifest):
    keys = {element.text for element in manifest if element.tag in ("depend", "exec_depend")}
    expected = {"numpy": "python3-numpy", "opencv-python": "python3-opencv", "torch": "python3-torch",
                "pyproj": "python3-pyproj", "pyyaml": "python3-yaml", "tqdm": "python3-tqdm",
                "httpx": "python3-httpx"}  # fmt: skip
    pip_only = {
        "rosbags",
        "safetensors",
        "pmtiles",
    }  # no rosdep key: the README says how to add them to a ROS installation
    core = {requirement_name(text) for text in setup["install_requires"]}
    assert core - pip_only == set(expected)
    assert set(expected.values()) <= keys
    messages = {name.removeprefix("ros-jazzy-").replace("-", "_") for name in setup["extras_require"]["ros"]}
    assert {name for name in messages if name.endswith(("_msgs", "_srvs", "rclpy"))} <= keys


def test_only_prefixed_ros_wheels_are_asked_for(setup):
    assert all(name.startswith("ros-jazzy-") for name in setup["extras_require"]["ros"])


def test_own_tf2_msgs_is_the_message_of_ros():
    folder = ROOT / "resource" / "tf2_msgs"
    assert (folder / "msg" / "TFMessage.msg").read_text() == "geometry_msgs/TransformStamped[] transforms\n"
    assert (folder / "COLCON_IGNORE").exists(), "colcon must never build it over a ROS installation's own"


def test_weights_and_parts_of_the_report_are_installed_and_small(setup):
    folder = ROOT / "cross_view_loc"
    installed = {path for pattern in setup["package_data"]["cross_view_loc"] for path in folder.glob(pattern)}
    wanted = (path for name in ("weights", "report") for path in (folder / name).glob("*"))
    assert installed == {path for path in wanted if path.suffix not in (".py", "")}
    assert sum(path.stat().st_size for path in installed) <= 20e6
