"""Packs an installed convae as a wheel: make_wheel.py INSTALLED TORCH_VERSION OUTPUT.

INSTALLED holds bin/, lib/ and include/ of a build with CONVAE_WHEEL. auditwheel puts the libraries
that it links inside, but for LibTorch and its libgomp, and names the floor of glibc in the tag."""

import pathlib
import platform
import re
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).parent
SOURCE = HERE.parents[1]

METADATA = """\
Metadata-Version: 2.4
Name: convae
Version: {version}
Summary: Trains convolutional autoencoders on folders of images
License-Expression: MIT
License-File: LICENSE
Requires-Python: >=3.9
Requires-Dist: torch=={torch}.*
Requires-Dist: safetensors
Description-Content-Type: text/markdown

"""

WHEEL = f"""\
Wheel-Version: 1.0
Generator: convae
Root-Is-Purelib: false
Tag: py3-none-linux_{platform.machine()}
"""

# Compiled in, so that no library's list of needs names them.
INSIDE = ["libopencv-core-dev", "libopencv-imgproc-dev", "libcxxopts-dev", "nlohmann-json3-dev",
          "libarchive-dev"]
THE_SYSTEMS = {"libc6", "libgcc-s1", "libstdc++6", "libgomp1"}


def run(*words):
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"make_wheel: {' '.join(map(str, words))}\n{done.stderr}")
    return done.stdout


def package_of(library):
    """The Debian package of a library, which dpkg may know without the /usr of its path."""
    path = library.resolve()
    for name in (path, pathlib.Path("/", path.relative_to("/usr")) if path.is_relative_to("/usr") else path):
        found = subprocess.run(["dpkg", "-S", name], capture_output=True, text=True).stdout
        if found:
            return found.split(":")[0]
    return None


def packages_of(file):
    """Those of all the libraries that it needs, and that these need."""
    libraries = map(pathlib.Path, re.findall(r"=> (/\S+)", run("ldd", file)))
    return {package for package in map(package_of, libraries) if package}


def add_licences(folder, files):
    """Debian keeps each package's with its documentation."""
    for package in {*INSIDE, *(p for file in files for p in packages_of(file))} - THE_SYSTEMS:
        shutil.copy(f"/usr/share/doc/{package}/copyright", folder / f"{package}.txt")


def lay_out(folder, installed, version, torch):
    shutil.copytree(installed, folder / "convae")
    shutil.copy(SOURCE / "python/convae/__init__.py", folder / "convae")
    scripts = folder / f"convae-{version}.data" / "scripts"
    scripts.mkdir(parents=True)
    command = scripts / "convae"
    command.write_text((HERE / "convae").read_text().replace("@TORCH@", torch))
    command.chmod(0o755)
    about = folder / f"convae-{version}.dist-info"
    (about / "licenses").mkdir(parents=True)
    (about / "METADATA").write_text(METADATA.format(version=version, torch=torch)
                                    + (SOURCE / "README.md").read_text())
    (about / "WHEEL").write_text(WHEEL)
    shutil.copy(SOURCE / "LICENSE", about / "licenses")
    add_licences(about / "licenses", [folder / "convae/bin/convae", folder / "convae/lib/libconvae.so"])


def main():
    installed, torch_version, output = sys.argv[1:]
    torch = ".".join(torch_version.split(".")[:2])
    version = re.search(r'kVersion = "(.+)"', (SOURCE / "core/version.h").read_text())[1]
    version += f"+torch{torch}"
    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place, "wheel")
        lay_out(folder, installed, version, torch)
        run(sys.executable, "-m", "wheel", "pack", folder, "--dest-dir", place)
        wheel, = pathlib.Path(place).glob("*.whl")
        run(sys.executable, "-m", "auditwheel", "repair", "--strip", "--wheel-dir", output, wheel,
            "--exclude", "libtorch*", "--exclude", "libc10*", "--exclude", "libgomp*")


main()
