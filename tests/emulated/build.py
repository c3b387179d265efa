"""Builds what the emulated GPU needs: its driver, libcuda.so.1, and pycuda, from source, beside it.

Run by `make gpu-emulated`: python tests/emulated/build.py. It needs a C++ compiler, the headers of
the CUDA toolkit (CUDA_HOME, else /usr/local/cuda) and those of Python; where one is missing it says
so and builds nothing, which is no error. Everything lies in .gpu-emulated/, which git ignores.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FOLDER = HERE.parents[1] / ".gpu-emulated" / f"cp{sys.version_info.major}{sys.version_info.minor}"
DRIVER = FOLDER / "lib" / "libcuda.so.1"
SITE = FOLDER / "site"
"""Where pycuda is put, once it is whole."""
BUILT = FOLDER / "driver.cpp"
"""What the driver was built of, once it is."""
PYCUDA = "pycuda==2026.1"


def missing() -> str | None:
    """Return what is missing to build, None where nothing is."""
    if sys.platform != "linux":
        return "the emulated driver is for Linux"
    if not shutil.which("g++") or not shutil.which("nm"):
        return "no C++ compiler (g++, binutils)"
    if not (cuda() / "include" / "cuda.h").is_file():
        return f"no CUDA headers at {cuda()} (CUDA_HOME names another toolkit)"
    if not (Path(sysconfig.get_paths()["include"]) / "Python.h").is_file():
        return "no headers of Python"
    return None


def cuda() -> Path:
    """Return the folder of the CUDA toolkit."""
    return Path(os.environ.get("CUDA_HOME", "/usr/local/cuda"))


def is_built() -> bool:
    """Return whether everything is built, the driver from its source as it is."""
    return SITE.is_dir() and BUILT.is_file() and BUILT.read_text() == _source()


def _source() -> str:
    return (HERE / "driver.cpp").read_text()


def build() -> None:
    """Build the driver, pycuda against it, and the driver again with all that pycuda names."""
    DRIVER.parent.mkdir(parents=True, exist_ok=True)
    BUILT.unlink(missing_ok=True)
    if not SITE.is_dir():
        _driver(())
        _pycuda()
    (extension,) = (SITE / "pycuda").glob("_driver*.so")
    _driver(())
    _driver(_undefined(extension) - _defined(DRIVER))
    BUILT.write_text(_source())


def _driver(others: set[str] | tuple[()]) -> None:
    """Compile the driver; `others` are functions of CUDA that it refuses."""
    with tempfile.TemporaryDirectory() as folder:
        rest = Path(folder) / "rest.cpp"
        refused = (f'extern "C" int {name}() {{ return 801; }}\n' for name in sorted(others))
        rest.write_text("".join(refused))
        _run(
            "g++", "-std=gnu++17", "-O2", "-Wall", "-shared", "-fPIC", "-pthread",
            "-Wl,-soname,libcuda.so.1", f"-I{cuda() / 'include'}", "-o", DRIVER,
            HERE / "driver.cpp", rest,
        )  # fmt: skip
    link = DRIVER.with_name("libcuda.so")
    link.unlink(missing_ok=True)
    link.symlink_to(DRIVER.name)


def _pycuda() -> None:
    """Build pycuda from source, without what is not needed to import its driver.

    Compilers that link with --as-needed would drop the driver, whose functions are still missing.
    """
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    with tempfile.TemporaryDirectory() as folder:
        tools = Path(folder) / "tools"
        _run(*pip, "install", "--target", tools, "setuptools", "wheel")
        environment = {**os.environ, "PYTHONPATH": str(tools)}
        _run(*pip, "download", "--no-deps", "--no-binary", "pycuda", "--no-build-isolation",
             "--dest", folder, PYCUDA, env=environment)  # fmt: skip
        (archive,) = Path(folder).glob("pycuda-*.tar.gz")
        shutil.unpack_archive(archive, folder)
        source = Path(folder) / archive.name.removesuffix(".tar.gz")
        (source / "siteconf.py").write_text(
            f"CUDA_ROOT = {str(cuda())!r}\nCUDADRV_LIB_DIR = [{str(DRIVER.parent)!r}]\n"
            "CUDA_ENABLE_CURAND = False\n"
            "CXXFLAGS = ['-O0', '-g0', '-w']\nLDFLAGS = ['-Wl,--no-as-needed']\n"
        )
        _run(sys.executable, "setup.py", "--quiet", "build", env=environment, cwd=source)
        (built,) = source.glob("build/lib*/pycuda")
        new = SITE.with_suffix(".new")
        shutil.rmtree(new, ignore_errors=True)
        shutil.copytree(built, new / "pycuda")
        new.rename(SITE)


def _undefined(library: Path) -> set[str]:
    listed = _run("nm", "-D", "--undefined-only", library)
    return {name for line in listed.splitlines() if (name := line.split()[-1]).startswith("cu")}


def _defined(library: Path) -> set[str]:
    return {line.split()[-1] for line in _run("nm", "-D", "--defined-only", library).splitlines()}


def _run(*command: object, **options: Any) -> str:
    done = subprocess.run(
        list(map(str, command)), check=False, capture_output=True, text=True, **options
    )
    if done.returncode:
        sys.exit(f"gpu-emulated: {' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def main() -> None:
    """Build unless it is built, or cannot be."""
    if why := missing():
        print(f"gpu-emulated: not built: {why}")
    elif not is_built():
        print("gpu-emulated: building", "" if SITE.is_dir() else "pycuda and", "the driver")
        sys.stdout.flush()
        build()


if __name__ == "__main__":
    main()
