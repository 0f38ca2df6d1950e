"""Widest paths, which morphological reconstruction and the watershed follow, and how parts of an image are summed up.

A flood that starts from sources goes along the paths whose narrowest place is widest. All such paths lie in a maximum
spanning tree. So a part of an image can be summed up for the rest by a forest among the pixels at its sides, which says
how wide the ways through the part are, and by the level that each of these pixels has from the sources within.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from daskimg.kinds import Array, Region

__all__: list[str] = []


class Outline(NamedTuple):
    """Sums a part of an image up: its pixels next to other parts, and the ways among them that could carry more.

    Attributes
    ----------
    region : Region
        The part, as it lies in the image.
    at : ndarray
        The number of each such pixel in the whole image, in ascending order.
    pixels : ndarray
        Their values, which say how wide the ways to the pixels of other parts are.
    level : ndarray
        How wide the widest way from a source in this part is.
    source : ndarray
        A number of that source, such as its label.
    first, second, width : ndarray
        The ways, between pixels by their places in `at`, or forks, which have the numbers after those.
    """

    region: Region
    at: Array
    pixels: Array
    level: Array
    source: Array
    first: Array
    second: Array
    width: Array


class Levels(NamedTuple):
    """Is what is known of each pixel of an outline in the end: its level, its source, and whether it parts two sources.

    Of two neighbours in different parts of the image that have different sources, the one reached later parts them.
    """

    level: Array
    source: Array
    is_line: Array


class Tree(NamedTuple):
    """Is a maximum spanning tree, rooted at where all sources come from: a node after all others.

    `parent` is the next node towards the root, `width` that of the way there, `level` that of the whole way to the
    root, and `source` the last node before the root.
    """

    parent: Array
    width: Array
    level: Array
    source: Array


def spanning_tree(count: int, first: Array, second: Array, width: Array, sources: Array, level: Array) -> Tree:
    """Return the tree of widest ways from sources with levels to all nodes; each must be connected to a source."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree

    ends = np.concatenate([first, sources]), np.concatenate([second, np.full(len(sources), count, second.dtype)])
    cost, width_of = _costs(np.concatenate([width, level]))
    graph = coo_array((cost, ends), (count + 1, count + 1)).tocsr()
    tree = minimum_spanning_tree(graph, overwrite=True)
    parent = breadth_first_order(tree, count, directed=False)[1]
    parent[count] = count
    edges = tree.tocoo()
    down = parent[edges.col] == edges.row
    to_parent = np.empty(count + 1, width.dtype)
    to_parent[np.where(down, edges.col, edges.row)] = width_of(edges.data)
    to_parent[count] = to_parent[:count].max()
    narrowest, jump = to_parent, parent
    source = np.where(parent == count, np.arange(count + 1, dtype=parent.dtype), parent)
    while (jump != count).any():
        narrowest = np.minimum(narrowest, narrowest[jump])
        source = source[source]
        jump = jump[jump]
    return Tree(parent, to_parent, narrowest, source)


def _costs(width: Array) -> tuple[Array, Callable[[Array], Array]]:
    """Return costs, whole numbers from 1 on that are less where widths are greater, and what makes widths of them.

    Of equal whole numbers the first costs less, so that any machine finds the same tree.
    """
    count = len(width)
    if width.dtype.kind in "iu":  # which all are so small that float64 holds the costs
        highest = int(width.max())
        cost = (highest - width.astype(np.float64)) * count + np.arange(1, count + 1)
        return cost, lambda cost: (highest - (cost.astype(np.int64) - 1) // count).astype(width.dtype)
    values, inverse = np.unique(width, return_inverse=True)
    return (len(values) - inverse).astype(np.float64), lambda cost: values[len(values) - cost.astype(np.intp)]


def ways_among(tree: Tree, ends: Array) -> tuple[Array, Array, Array, Array]:
    """Return the nodes that are ends or forks, and the ways of a tree among them that are wider than their levels.

    Parameters
    ----------
    tree : Tree
        All ways.
    ends : ndarray
        Numbers of nodes, which come first among the nodes returned; the ways are between places in that list.
    """
    root = len(tree.parent) - 1
    up = np.where(tree.width > tree.level, tree.parent, root)
    up[root] = root
    # Only what lies on the way from an end towards the root matters.
    marked = np.zeros(root + 1, bool)
    marked[ends] = True
    jump = up
    while (jump != root).any():
        marked[jump[marked]] = True
        jump = jump[jump]
    marked[root] = False
    is_node = np.bincount(up[marked], minlength=root + 1) >= 2
    is_node[ends] = is_node[root] = True
    onward, width = up.copy(), tree.width.copy()
    on_way = np.flatnonzero(marked)
    while len(on_way := on_way[~is_node[onward[on_way]]]):
        over = onward[on_way]
        width[on_way], onward[on_way] = np.minimum(width[on_way], width[over]), onward[over]
    is_node[root] = False
    forks = is_node.copy()
    forks[ends] = False
    nodes = np.concatenate([ends, np.flatnonzero(forks)])
    place = np.zeros(root + 1, np.int32)
    place[nodes] = np.arange(len(nodes))
    leads = nodes[onward[nodes] != root]
    return nodes, place[leads], place[onward[leads]], width[leads]


def grid_edges(index: Array, connectivity: int) -> tuple[Array, Array]:
    """Return the pairs of numbers that are neighbours in an array of numbers, where -1 is none."""
    ahead, behind, all_ = slice(1, None), slice(None, -1), slice(None)
    pairs = [((all_, behind), (all_, ahead)), ((behind, all_), (ahead, all_))]
    if connectivity == 8:
        pairs += [((behind, behind), (ahead, ahead)), ((behind, ahead), (ahead, behind))]
    found = []
    for one, other in pairs:
        first, second = index[one].ravel(), index[other].ravel()
        both = (first >= 0) & (second >= 0)
        found.append((first[both], second[both]))
    return np.concatenate([one for one, _ in found]), np.concatenate([other for _, other in found])


def at_sides(region: Region, size: tuple[int, int], rows: Array, columns: Array) -> Array:
    """Return which of the pixels of a region lie next to pixels of the image outside of it."""
    top, left, bottom, right = region
    found: Array = (rows == top) & (top > 0)
    found |= (rows == bottom - 1) & (bottom < size[0])
    found |= (columns == left) & (left > 0)
    found |= (columns == right - 1) & (right < size[1])
    return found


def side_pixels(region: Region, size: tuple[int, int]) -> tuple[Array, Array]:
    """Return the rows and columns, in the region, of its pixels next to others of the image, in raster order."""
    rows, columns = region.shape
    is_side = np.zeros((rows, columns), bool)
    is_side[:1] |= region.top > 0
    is_side[rows - 1 :] |= region.bottom < size[0]
    is_side[:, :1] |= region.left > 0
    is_side[:, columns - 1 :] |= region.right < size[1]
    y, x = np.nonzero(is_side)
    return y, x


Widths = Callable[[Array, Array], Array]
"""`(pixels, pixels) -> widths` of the ways between neighbours."""


class _Joined(NamedTuple):
    """Is what several outlines amount to: one tree over all their nodes.

    `source` are the numbers of sources, by node, and `here` and `there` the nodes that are neighbours across sides.
    """

    tree: Tree
    source: Array
    here: Array
    there: Array


def _nodes(outlines: list[Outline]) -> tuple[list[int], Array, Array]:
    """Return where the nodes of each outline begin, where they are joined, and the pixels' positions and nodes."""
    starts = [0]
    for one in outlines:
        last = max(len(one.at) - 1, one.first.max(initial=-1), one.second.max(initial=-1))
        starts.append(starts[-1] + int(last) + 1)
    at = np.concatenate([one.at for one in outlines])
    node = np.concatenate([start + np.arange(len(one.at)) for start, one in zip(starts, outlines, strict=False)])
    return starts, at, node


def _outer(region: Region, size: tuple[int, int], at: Array) -> Array:
    """Return which of the pixels of a region's parts lie next to others outside of it, in ascending order of pixels."""
    outer = np.flatnonzero(at_sides(region, size, *np.divmod(at, size[1])))
    return outer[np.argsort(at[outer])]


def _join(
    outlines: list[Outline], columns: int, connectivity: int, widths: Widths, known: Levels | None, known_at: Array
) -> _Joined:
    """Join outlines across their sides; `known` is what is known of some of their pixels, by their numbers."""
    starts, at, node = _nodes(outlines)
    part = np.repeat(np.arange(len(outlines)), [len(one.at) for one in outlines])
    pixels = np.concatenate([one.pixels for one in outlines])
    level = np.concatenate([one.level for one in outlines])
    source = np.concatenate([one.source for one in outlines])
    order = np.argsort(at, kind="stable")
    at, node, part, pixels, level, source = (one[order] for one in (at, node, part, pixels, level, source))
    if known is not None:
        places = np.searchsorted(at, known_at)
        level[places], source[places] = known.level, known.source
    ways_here, ways_there = [], []
    first = [one.first + start for one, start in zip(outlines, starts, strict=False)]
    second = [one.second + start for one, start in zip(outlines, starts, strict=False)]
    width = [one.width for one in outlines]
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1))[: connectivity // 2]:
        here = np.flatnonzero((at % columns + dx >= 0) & (at % columns + dx < columns))
        there = np.searchsorted(at, at[here] + dy * columns + dx)
        there[there == len(at)] = 0
        across = (at[there] == at[here] + dy * columns + dx) & (part[there] != part[here])
        here, there = here[across], there[across]
        ways_here.append(node[here])
        ways_there.append(node[there])
        width.append(widths(pixels[here], pixels[there]))
    here, there = np.concatenate(ways_here), np.concatenate(ways_there)
    ways = np.concatenate([*first, here]), np.concatenate([*second, there]), np.concatenate(width)
    tree = spanning_tree(starts[-1], *ways, node, level)
    by_node = np.zeros(starts[-1] + 1, source.dtype)
    by_node[node] = source
    return _Joined(tree, by_node[tree.source], here, there)


def join_outlines(
    outlines: list[Outline], region: Region, size: tuple[int, int], connectivity: int, widths: Widths
) -> Outline:
    """Return the outline of a region that is put together from those of its parts."""
    joined = _join(outlines, size[1], connectivity, widths, None, np.zeros(0, np.int64))
    _, at, node = _nodes(outlines)
    pixels = np.concatenate([one.pixels for one in outlines])
    kept = _outer(region, size, at)
    ends = node[kept]
    _, first, second, width = ways_among(joined.tree, ends)
    return Outline(region, at[kept], pixels[kept], joined.tree.level[ends], joined.source[ends], first, second, width)


def decide_levels(
    outlines: list[Outline],
    known: Levels | None,
    region: Region,
    size: tuple[int, int],
    connectivity: int,
    widths: Widths,
) -> list[Levels]:
    """Return the levels and sources of the pixels of each of a region's parts from those of the region's own."""
    starts, at, node = _nodes(outlines)
    outer = _outer(region, size, at)
    joined = _join(outlines, size[1], connectivity, widths, known, at[outer])
    level, source = joined.tree.level, joined.source
    here, there = joined.here, joined.there
    apart = (source[here] != source[there]) & (source[here] > 0) & (source[there] > 0)
    here, there = here[apart], there[apart]
    is_line = np.zeros(len(level), bool)
    is_line[np.where(level[here] < level[there], here, there)] = True
    if known is not None:
        is_line[node[outer]] |= known.is_line
    mine = [slice(start, start + len(one.at)) for start, one in zip(starts, outlines, strict=False)]
    return [Levels(level[one], source[one], is_line[one]) for one in mine]
