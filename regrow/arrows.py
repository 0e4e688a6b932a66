"""What depends on what, as arrows from name to name: who is reached, and where they go in a circle."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence


def reached(start: str, arrows: Callable[[str], Iterable[str]]) -> list[str]:
    """All that the arrows lead to from ``start``, the nearest first, each once and never ``start`` itself."""
    found: dict[str, None] = {}
    waiting = list(arrows(start))
    while waiting:
        further: list[str] = []
        for name in waiting:
            if name != start and name not in found:
                found[name] = None
                further += arrows(name)
        waiting = further
    return list(found)


def circle_among(arrows: Mapping[str, Sequence[str]]) -> list[str]:
    """The first circle of arrows, in full, its first name again at its end; empty when there is none."""
    done: set[str] = set()
    for start in arrows:
        path: list[str] = []
        # (name, what is left of its arrows): a walk in depth that no length of a chain can overflow
        walk = [(start, iter(arrows[start]))]
        while walk:
            name, rest = walk[-1]
            if len(path) < len(walk):
                path.append(name)
            following = next((other for other in rest if other in arrows and other not in done), None)
            if following is None:
                done.add(name)
                walk.pop()
                path.pop()
            elif following in path:
                return [*path[path.index(following) :], following]
            else:
                walk.append((following, iter(arrows[following])))
    return []
