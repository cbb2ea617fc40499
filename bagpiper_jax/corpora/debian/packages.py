"""Downloads Debian packages and unpacks them into a folder, without root and without installing anything."""

import dataclasses
import logging
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from bagpiper_jax import files
from bagpiper_jax.corpora.assembly import CorpusError

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Known:
    """The version that this package's tables were made for, and the sha256 of its archive."""

    version: str
    sha256: str


@dataclasses.dataclass(frozen=True)
class Package:
    """An unpacked package.

    Attributes:
        name, version, sha256: of the archive.
        root: folder with the package's files, as they would stand under `/`.
    """

    name: str
    version: str
    sha256: str
    root: Path

    def copyright(self) -> Path:
        """Debian's copyright file of the package."""
        return self.root / "usr" / "share" / "doc" / self.name / "copyright"


KNOWN = {
    "asterisk-core-sounds-en": Known(
        "1.6.1-1",
        "973e797d28e37fa6ca3c0a9d6fa717e77cf1268ae916bf09fd3503113cdffa50",
    ),
    "asterisk-core-sounds-es": Known(
        "1.6.1-1",
        "9afdab7f559f036649fb406e625899306ca1004df8ebe39c30bfbd5912d66f74",
    ),
    "asterisk-core-sounds-fr": Known(
        "1.6.1-1",
        "04c82c78c570c43a7136cbc5e2488d0c470b775468dff9fbce4a131b18cf1056",
    ),
    "asterisk-core-sounds-it": Known(
        "1.6.1-1",
        "3884d9457e12f21caa018c18f0d587df5d53ebea14b673d8453a134c5941ab3b",
    ),
    "asterisk-core-sounds-ru": Known(
        "1.6.1-1",
        "28a61616bb0cd3345a7ea532dec4df9f071e5d0fa9f8c1a563ea9669002f39ab",
    ),
    "asterisk-core-sounds-en-g722": Known(
        "1.6.1-1",
        "38c5261820b406dcb0ecb37675720da2b0864850690690352ca52707eb623806",
    ),
    "asterisk-core-sounds-es-g722": Known(
        "1.6.1-1",
        "e4e3b4281057d3b81b779298fd6be705f57411513955c518eed1bcaabbd615b8",
    ),
    "asterisk-core-sounds-fr-g722": Known(
        "1.6.1-1",
        "7add61d5e42279ecff1bbdf842a5a946ac3644fac9a0fe44384731aa7270c8e0",
    ),
    "asterisk-core-sounds-it-g722": Known(
        "1.6.1-1",
        "46b4cf7afc508a5fcfc051b7ea233251c0d195dd4ef83cc4b7facb4c6429b016",
    ),
    "asterisk-core-sounds-ru-g722": Known(
        "1.6.1-1",
        "673b4238a6b8269960f055d868c6a11083f7a0d00979167cb01554046b48ed9b",
    ),
    "lincity-ng-data": Known(
        "2.9~git20150314-5",
        "8f5e85bd42879abdc7099b035d7a3d7468eceb6b93b52a12270c28f3f3c792f9",
    ),
    "minetest-data": Known(
        "5.6.1+dfsg+~1.9.0mt8+dfsg-2",
        "91371dd2bd51cfcd4fa60c138667989a47047dfe1a47f7523b9ad1782d397585",
    ),
    "singularity-music": Known(
        "007-2",
        "139ba1e408eeb0a72f1fff3760ca46558b9f81bed97dc8c0efa108c4007f4845",
    ),
    "sonic-pi-samples": Known(
        "3.2.2~repack-8",
        "25f2312d2fae005e6ad0f4726b8ed3084e776006a5a132083506e960224ac79d",
    ),
    "timgm6mb-soundfont": Known(
        "1.3-5",
        "034abdfb296d9353433513dad5dbdcab46425ee6008fc02fe7039b46e75edc54",
    ),
}


def obtain(names: Sequence[str], work: Path) -> list[Package]:
    """Downloads what is not there yet and unpacks it.

    Raises:
        CorpusError: this is no Debian, a package cannot be had, or an archive is not the one known.
    """
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise CorpusError(
                f"{tool} is not on the path: the Debian corpus needs Debian or Ubuntu (or a container of it); "
                "elsewhere build the embedded corpus or your own (see docs/corpora.md)"
            )
    downloads = work / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    missing = [name for name in names if not _archives(downloads, name)]
    if missing:
        _download(missing, downloads)
    return [_unpack(_checked(name, downloads, work), work) for name in names]


def _archives(downloads: Path, name: str) -> list[Path]:
    return sorted(downloads.glob(f"{name}_*.deb"))


def _download(names: Sequence[str], downloads: Path) -> None:
    _log.info("downloading %d Debian packages", len(names))
    # In a folder of its own first, so that an interrupted download is never taken for a finished one.
    partial = downloads / "partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    _run(["apt-get", "download", *names], partial)
    for archive in partial.glob("*.deb"):
        archive.rename(downloads / archive.name)


def _run(command: list[str], folder: Path) -> str:
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if result.returncode:
        complaint = " ".join(result.stderr.split())[-500:]
        raise CorpusError(
            f"`{' '.join(command)}` failed: {complaint}; if apt cannot locate a package, run `apt-get update` as root "
            "once, and enable the `main` component of Debian 12 or newer"
        )
    return result.stdout


def _checked(name: str, downloads: Path, work: Path) -> Package:
    archives = _archives(downloads, name)
    if not archives:
        raise CorpusError(f"apt-get did not leave an archive of {name} in {downloads}")
    version = _run(["dpkg-deb", "--field", str(archives[-1].resolve()), "Version"], downloads).strip()
    package = Package(name, version, files.sha256(archives[-1]), work / "unpacked" / name)
    known = KNOWN.get(name)
    if known is None or version != known.version:
        _log.warning(
            "%s %s is not the version that the label tables were made for (%s)", name, version, known
        )
    elif package.sha256 != known.sha256:
        raise CorpusError(
            f"{archives[-1]} has sha256 {package.sha256}, known is {known.sha256}; delete it and build again"
        )
    return package


def _unpack(package: Package, work: Path) -> Package:
    marker = work / "unpacked" / f"{package.name}.sha256"
    if marker.exists() and marker.read_text() == package.sha256:
        return package
    shutil.rmtree(package.root, ignore_errors=True)
    package.root.mkdir(parents=True)
    archive = _archives(work / "downloads", package.name)[-1]
    _run(["dpkg-deb", "--extract", str(archive.resolve()), str(package.root.resolve())], work)
    marker.write_text(package.sha256)
    return package
