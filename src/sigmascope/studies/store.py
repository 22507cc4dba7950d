"""Folders of results and their checkpoints.  Every file is written under a temporary name and then renamed."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

import sigmascope.distributed as distributed
from sigmascope.core import InputError
from sigmascope.report.gallery import rendered
from sigmascope.studies.options import changed
from sigmascope.studies.reading import read_study
from sigmascope.studies.spec import GENERATED, Spec, plan_of, read_spec
from sigmascope.studies.tasks import Task, difference, to_toml

_RESULTS, _SPEC, _PAGE = "results.nc", "spec.toml", "report.html"
_CHECKPOINTS = "checkpoint*.npz"
IMAGES = "generated.npz"
"""File of the images that a pipeline makes; written before the specification of the study is complete."""
_STATES = "generating*.npz"
_PART = ".part-"


class Folder:
    """A folder of results, with a checkpoint for each rank.

    Args:
        path: is made if it does not exist.
        marker: name of the file that identifies the run.
        text: content of that file.

    Raises: InputError if the folder cannot be written.
    """

    def __init__(self, path: Path, marker: str, text: str) -> None:
        self.path = path
        distributed.by_first(lambda: self._begin(marker, text))
        path.mkdir(parents=True, exist_ok=True)  # the machine of another rank may have a disk of its own

    def _begin(self, marker: str, text: str) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.write_text(marker, text)
        except OSError as error:
            where = error.filename or self.path
            raise InputError(f"{where}: cannot be written ({error.strerror}): choose another --out") from error
        for leftover in self.path.glob(f"{_PART}*"):
            if not _alive(leftover.name.removeprefix(_PART).split("-")[0]):
                leftover.unlink(missing_ok=True)

    def write(self, name: str, writer: Callable[[Path], object]) -> None:
        """Write a file completely, or not at all."""
        _write(self.path, name, writer)

    def write_text(self, name: str, text: str) -> None:
        """Write a text file in UTF-8."""
        self.write(name, lambda p: p.write_text(text, encoding="utf-8"))

    def write_figure(self, name: str, figure: Figure) -> None:
        """Write a figure as ``name.png`` and ``name.svg``."""
        for kind in ("png", "svg"):
            picture = rendered(figure, kind)
            self.write(f"{name}.{kind}", lambda p, picture=picture: p.write_bytes(picture))  # type: ignore[misc]

    def write_arrays(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Write arrays as an .npz file."""
        _write_arrays(self.path, name, arrays)

    def store_checkpoint(self, state: Mapping[str, np.ndarray]) -> None:
        """Keep the state of this rank."""
        self.write_arrays(_checkpoint(), state)

    def drop_checkpoint(self) -> None:
        """Delete the checkpoint of this rank."""
        (self.path / _checkpoint()).unlink(missing_ok=True)

    def checkpoint(self) -> dict[str, np.ndarray] | None:
        """The state of an interrupted run; None where there is none, or where it is damaged.

        Raises: InputError for a run with another number of processes.
        """
        own = self.path / _checkpoint()
        for kept in self.path.glob(_CHECKPOINTS):
            ranks = int(kept.stem.rpartition("-of-")[2]) if re.fullmatch(r"checkpoint-\d+-of-\d+", kept.stem) else 1
            if ranks != distributed.world():
                began, how = f"{ranks} processes", f"torchrun --nproc-per-node {ranks}"
                if ranks == 1:
                    began, how = "one process", "no torchrun"
                raise InputError(
                    f"{self.path}: the interrupted run had {began}: go on with {how}, or delete {_CHECKPOINTS} in it "
                    "to start again"
                )
        try:
            with own.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                return {k: file[k] for k in file.files}
        except FileNotFoundError:
            return None
        except Exception:  # an archive that is damaged raises anything
            own.unlink()
            return None


class TaskFolder(Folder):
    """The folder of a ``generate`` or ``fork``.

    Args:
        path: is made if it does not exist.
        task: with the fingerprint of its data.

    Raises: InputError if the folder cannot be written, or holds another task.
    """

    def __init__(self, path: Path, task: Task) -> None:
        marker = path / f"{task.kind}.toml"
        if marker.exists():
            differs = difference(marker.read_text(encoding="utf-8", errors="replace"), task)
            if differs:
                raise InputError(f"{path}: it holds another run ({differs}): choose another --out")
        super().__init__(path, marker.name, to_toml(task))
        self._last = f"{task.kind}.npz"

    @property
    def finished(self) -> bool:
        """Whether the arrays are there, which are written last."""
        return (self.path / self._last).exists()

    def finish(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Write the arrays and delete the checkpoint."""
        self.write_arrays(self._last, arrays)
        self.drop_checkpoint()


class StudyFolder(Folder):
    """The folder of a study.

    Args:
        path: is made if it does not exist.
        spec: the study, with the fingerprint of its data.

    Raises: InputError if the folder cannot be written, holds something else, or holds another study.
    """

    def __init__(self, path: Path, spec: Spec) -> None:
        self.spec = spec
        check_study_folder(path, spec)
        check_study(path, spec)
        super().__init__(path, _SPEC, _header() + spec.to_toml())

    def results(self) -> xr.Dataset | None:
        """The finished results, or None."""
        path = self.path / _RESULTS
        if not path.exists():
            return None
        results = read_study(path, "delete it and run again")
        if results.attrs.get("data_fingerprint") != self.spec.fingerprint:
            raise InputError(f"{path}: the results are of another study: choose another --out")
        return results

    def store_results(self, results: xr.Dataset) -> None:
        whole = netcdf(results)
        self.write(_RESULTS, lambda p: p.write_bytes(whole))
        self.drop_checkpoint()

    @property
    def has_page(self) -> bool:
        """Whether the page is there, which is written last."""
        return (self.path / _PAGE).exists()


def check_folder(path: Path, marker: str = _SPEC, also: Collection[str] = ()) -> None:
    """Refuse a path that is a file, a folder of something else, or not writable.  Nothing is made.

    Args:
        path: of the folder.
        marker: name of the file that identifies the run.
        also: names of files that may be there without it.

    Raises: InputError.
    """
    if path.exists() and not path.is_dir():
        raise InputError(f"{path}: it is a file: --out must be a folder")
    if path.exists():
        foreign = [p.name for p in path.iterdir() if not p.name.startswith(_PART) and p.name not in also]
        if foreign and marker not in foreign:
            expected = "study" if marker == _SPEC else f"{marker} of an earlier run"
            raise InputError(
                f"{path}: it is not empty and holds no {expected}: choose an empty or a new folder for --out"
            )
    nearest = path
    while not nearest.exists():
        nearest = nearest.parent
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise InputError(f"{path}: {nearest} cannot be written: choose another --out")


def check_study_folder(path: Path, spec: Spec) -> None:
    """:func:`check_folder` for a study, whose generated images may be there first (raises InputError)."""
    generated = spec.inputs.data == GENERATED
    check_folder(path, also=(IMAGES, *(p.name for p in path.glob(_STATES))) if generated else ())


def check_study(path: Path, spec: Spec) -> None:
    """Refuse the folder of another study (raises InputError); what is not yet known of this one is not compared."""
    if not (path / _SPEC).exists():
        return
    stored = read_spec(path / _SPEC)
    full = changed(
        spec,
        fingerprint=spec.fingerprint or stored.fingerprint,
        attributes=spec.inputs.attributes or stored.inputs.attributes,
        **plan_of(stored, spec),
    )
    differs = stored.difference(full)
    if not differs and (stored.inputs.data == GENERATED) != (spec.inputs.data == GENERATED):
        differs = "of other data"
    if differs:
        raise InputError(f"{path}: it holds another study ({differs}): choose another --out")


def keep_images(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Keep images that a pipeline made, before the folder is that of a study.

    Raises: InputError if they cannot be written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        _write_arrays(path, IMAGES, arrays)
    except OSError as error:
        where = error.filename or path
        raise InputError(f"{where}: cannot be written ({error.strerror}): choose another --out") from error


class States:
    """The states of the samplers that make images, of this rank, while the folder is not yet that of a study.

    Args:
        path: of the folder.
        made_by: by what, in words.
    """

    def __init__(self, path: Path, made_by: str) -> None:
        self._path, self._made_by, self._name = path, made_by, _checkpoint("generating")

    def read(self) -> dict[str, np.ndarray] | None:
        """Those of an interrupted run; None where there are none, or they are damaged or of other images."""
        try:
            with np.load(self._path / self._name, allow_pickle=False) as file:
                held = {k: file[k] for k in file.files}
            return held if str(held.pop("made_by")) == self._made_by else None
        except Exception:  # an archive that is damaged raises anything
            return None

    def write(self, states: Mapping[str, np.ndarray]) -> None:
        """Keep them."""
        self._path.mkdir(parents=True, exist_ok=True)
        _write_arrays(self._path, self._name, {**states, "made_by": np.array(self._made_by)})

    def drop(self) -> None:
        """Delete them."""
        (self._path / self._name).unlink(missing_ok=True)


def netcdf(results: xr.Dataset | xr.DataTree) -> memoryview:
    """The bytes of a file of results.

    They are made in memory, since HDF5 ends the process where the disk is full while it writes a file.
    """
    return memoryview(results.to_netcdf(engine="h5netcdf"))


def _write(folder: Path, name: str, writer: Callable[[Path], object]) -> None:
    target = folder / name
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f"{_PART}{os.getpid()}-", suffix=target.suffix, dir=folder)
        os.close(handle)
        try:
            writer(Path(temporary))
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, target)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:  # with the name of the target, not the temporary one
        raise OSError(error.errno, error.strerror or str(error), str(target)) from error


def _write_arrays(folder: Path, name: str, arrays: Mapping[str, np.ndarray]) -> None:
    def write(path: Path) -> None:
        with path.open("wb") as file:
            np.savez(file, allow_pickle=False, **dict(arrays))

    _write(folder, name, write)


def _checkpoint(name: str = "checkpoint") -> str:
    """Name of the checkpoint of this rank."""
    world = distributed.world()
    return f"{name}.npz" if world == 1 else f"{name}-{distributed.rank()}-of-{world}.npz"


def _alive(pid: str) -> bool:
    """Whether the process that writes a temporary file still runs."""
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _header() -> str:
    return "# Run this study again with: sigmascope study --spec THIS-FILE --out FOLDER\n"


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
