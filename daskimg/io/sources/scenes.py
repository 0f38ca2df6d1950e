"""Files with several images: which one is meant."""

from __future__ import annotations

from collections.abc import Sequence

from daskimg.errors import ImageFileError, ParameterError, suggest

__all__ = ["choose_scene"]


def choose_scene(scene: int | str | None, names: Sequence[str], shown: str) -> int:
    """Return the number of the scene that is meant; a file that names none has one, of number 0.

    Raises
    ------
    ImageFileError
        There are several and none is named, or there is no such scene.
    ParameterError
        `scene` is neither a number from 0 nor a name.
    """
    if isinstance(scene, bool) or not isinstance(scene, int | str | None) or (isinstance(scene, int) and scene < 0):
        raise ParameterError(f"scene must be a number from 0 or a name, got {scene!r}.")
    count = max(1, len(names))
    if scene is None:
        if count > 1:
            raise ImageFileError(f"{shown} holds {count} scenes; say which: scene=0, or {_listed(names)}.")
        return 0
    if isinstance(scene, str) and scene in names:
        return list(names).index(scene)
    if isinstance(scene, int) and scene < count:
        return scene
    hint = suggest(scene, names) if isinstance(scene, str) else ""
    allowed = f"scenes 0 to {count - 1}" + (f": {_listed(names)}" if names else "")
    raise ImageFileError(f"{shown} has no scene {scene!r}.{hint} It has {allowed}.")


def _listed(names: Sequence[str]) -> str:
    few = ", ".join(f"scene={name!r}" for name in names[:6])
    return few + (", ..." if len(names) > 6 else "")
