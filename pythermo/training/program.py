"""A network as a list of layers that members side by side can go through, read from the module itself."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from pythermo.models.layers import trained_parameters


class LayerNotKnownError(ValueError):
    """A network has a layer that members side by side do not have; the message names it."""


@dataclass(frozen=True)
class Convolution:
    """A convolution with trained weights; ``weights`` is their place among the trained parameters."""

    source: int
    weights: int
    stride: int
    padding: int


@dataclass(frozen=True)
class BatchNorm:
    """A normalization by the batch's own statistics, then max pooling of pool x pool pixels, then ReLU."""

    source: int
    eps: float
    pool: int = 1
    rectify: bool = False


@dataclass(frozen=True)
class Sum:
    """The sum of two features of one shape: what joins a shortcut."""

    source: int
    other: int


Layer = Convolution | BatchNorm | Sum


def sources(layer: Layer) -> list[int]:
    """Return the values that a layer takes."""
    return [layer.source, layer.other] if isinstance(layer, Sum) else [layer.source]


@dataclass(frozen=True)
class Head:
    """Pooling over all pixels, to the largest or the mean, and a frozen linear layer."""

    source: int
    largest: bool
    weights: Tensor  # [classes, F]
    bias: Tensor  # [classes] or [0]


@dataclass(frozen=True)
class Program:
    """Layers one after the other; the images are value 0, and layer i writes value i + 1.

    ``shapes`` are those of the values, [channels, height, width], and ``weights`` those of the trained
    parameters, [O, C, kernel, kernel], in their order.
    """

    layers: tuple[Layer, ...]
    head: Head
    shapes: tuple[tuple[int, int, int], ...]
    weights: tuple[tuple[int, int, int, int], ...]

    @property
    def dim(self) -> int:
        """Number of trained weights."""
        return sum(torch.Size(shape).numel() for shape in self.weights)


def read_program(model: nn.Module, image_shape: tuple[int, int, int]) -> Program:
    """Return the layers of a network in training mode.

    Parameters
    ----------
    model : nn.Module
        Float32, on the CPU. Convolutions of 1x1 and 3x3 without bias, strides of 1 and 2; BatchNorm without
        affine parameters, by the batch's statistics; ReLU and 2x2 max pooling behind it; sums; pooling over
        all pixels and a frozen linear layer at the end.
    image_shape : tuple
        Of its images: [channels, height, width].

    Raises
    ------
    LayerNotKnownError
        Naming the first layer that is none of these.
    """
    images = torch.zeros(2, *image_shape)
    try:
        exported = torch.export.export(model, (images,))
    except Exception as error:  # torch.export raises of many kinds what it cannot follow
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise LayerNotKnownError(f"model: {type(model).__name__} cannot be read: {reason}") from error
    return _Reader(model, exported).program()


@dataclass(frozen=True)
class _Value:
    """What a node of the graph stands for: a value of the program, or something on the way to one."""

    number: int
    dims: tuple[int, ...] = (0, 1, 2, 3)  # which of [N, C, H, W] each of its dimensions is
    every: tuple[int, int] = (1, 1)  # rows and columns that were cut out of the value
    pooled: str = ""  # "largest" or "mean", once all pixels are pooled


class _Reader:
    """Goes through an exported graph, node by node."""

    def __init__(self, model: nn.Module, exported: torch.export.ExportedProgram) -> None:
        signature = exported.graph_signature
        state = dict(model.named_parameters(remove_duplicate=False))
        trained = {id(param): i for i, param in enumerate(trained_parameters(model))}
        self._nodes = list(exported.graph.nodes)
        self._params = {name: state[own] for name, own in signature.inputs_to_parameters.items()}
        self._buffers = set(signature.inputs_to_buffers)
        self._images = set(signature.user_inputs)
        self._trained, self._used = trained, set[int]()
        self._names = {id(param): name for name, param in state.items()}
        self._weights = [tuple(param.shape) for param in trained_parameters(model)]
        self._values: dict[fx.Node, _Value] = {}
        self._layers: list[Layer] = []
        self._shapes: list[tuple[int, int, int]] = []
        self._head: Head | None = None

    def program(self) -> Program:
        for node in self._nodes:
            if node.op == "placeholder":
                if node.name in self._images:
                    self._values[node] = self._new_value(node)
            elif node.op == "call_function":
                self._read(node)
            elif node.op == "output" and self._head is None:
                raise LayerNotKnownError("model: must end with a frozen linear layer")
        if len(self._images) != 1:
            raise LayerNotKnownError(f"model: must take images alone, not {len(self._images)} inputs")
        for i in self._trained.values():
            if i not in self._used:
                raise LayerNotKnownError(f"model: {self._name(i)} is trained, but no weight of a convolution")
        assert self._head is not None
        weights: Any = tuple(self._weights)
        return Program(tuple(self._layers), self._head, tuple(self._shapes), weights)

    def _name(self, trained: int) -> str:
        return next(self._names[param] for param, i in self._trained.items() if i == trained)

    def _read(self, node: fx.Node) -> None:
        reader = getattr(self, "_" + _operation(node), None)
        if reader is None or self._head is not None:
            raise self._not_known(node)
        try:
            reader(node, *node.args, **node.kwargs)
        except (TypeError, KeyError) as error:  # other arguments than those that are known
            raise self._not_known(node) from error

    def _not_known(self, node: fx.Node, why: str = "") -> LayerNotKnownError:
        stack = list((node.meta.get("nn_module_stack") or {}).values())
        name, kind = stack[-1] if stack else ("", "")
        kind = (kind if isinstance(kind, str) else kind.__name__).rsplit(".", 1)[-1]
        where = f"{kind} {name!r}" if name else f"its own operation {_operation(node)}"
        return LayerNotKnownError(
            f"model: {where} is not among the layers that members have side by side"
            + (f": {why}" if why else f" ({_operation(node)})")
        )

    def _new_value(self, node: fx.Node) -> _Value:
        shape = tuple(node.meta["val"].shape)
        if len(shape) != 4:
            raise self._not_known(node, f"its result has the shape {list(shape)}")
        self._shapes.append(shape[1:])
        return _Value(len(self._shapes) - 1)

    def _plain(self, node: fx.Node, source: fx.Node) -> _Value:
        """Return a value that is as a layer wrote it."""
        value = self._values[source]
        if value != _Value(value.number):
            raise self._not_known(node, "its images are turned, cut or pooled")
        return value

    def _layer(self, node: fx.Node, layer: Layer) -> None:
        self._layers.append(layer)
        self._values[node] = self._new_value(node)

    # What changes the order of memory alone.
    def _permute(self, node: fx.Node, source: fx.Node, dims: list[int]) -> None:
        value = self._values[source]
        turned = tuple(value.dims[dim] for dim in dims)
        self._values[node] = _Value(value.number, turned, value.every, value.pooled)

    def _clone(self, node: fx.Node, source: fx.Node, memory_format: Any = None) -> None:
        self._values[node] = self._values[source]

    _contiguous = _clone

    def _slice(self, node: fx.Node, source: fx.Node, dim: int, start: int, end: int, step: int = 1) -> None:
        value = self._values[source]
        size = source.meta["val"].shape[dim]
        if start != 0 or end < size or dim not in (2, 3) or step not in (1, 2) or value.pooled:
            raise self._not_known(node, "only every second row and column may be cut out")
        rows, columns = value.every
        every = (rows * step, columns) if dim == 2 else (rows, columns * step)
        self._values[node] = _Value(value.number, value.dims, every)

    def _conv2d(
        self,
        node: fx.Node,
        source: fx.Node,
        weight: fx.Node,
        bias: fx.Node | None = None,
        stride: Any = (1, 1),
        padding: Any = (0, 0),
        dilation: Any = (1, 1),
        groups: int = 1,
    ) -> None:
        value, (height, width) = self._values[source], weight.meta["val"].shape[2:]
        steps = [own * every for own, every in zip(stride, value.every, strict=True)]
        cut = value.every != (1, 1)
        same = height == width and steps[0] == steps[1] and padding[0] == padding[1]
        allowed = same and height in (1, 3) and steps[0] in (1, 2) and padding[0] in range(height)
        if (
            bias is not None
            or list(dilation) != [1, 1]
            or groups != 1
            or not allowed
            or (cut and height != 1)
        ):
            raise self._not_known(
                node, "only 1x1 and 3x3 ones without bias, strides of 1 and 2 and no groups are known"
            )
        if value.dims != (0, 1, 2, 3) or value.pooled:
            raise self._not_known(node, "its images are turned or pooled")
        param = self._params[weight.name]
        if id(param) not in self._trained:
            raise self._not_known(node, f"its weights {weight.name} are not trained")
        number = self._trained[id(param)]
        self._used.add(number)
        self._layer(node, Convolution(value.number, number, steps[0], padding[0]))

    def _batch_norm(
        self,
        node: fx.Node,
        source: fx.Node,
        weight: Any,
        bias: Any,
        mean: Any,
        variance: Any,
        training: bool,
        momentum: float,
        eps: float,
        cudnn: bool,
    ) -> None:
        if weight is not None or bias is not None or not training:
            raise self._not_known(
                node, "only one without affine parameters, by the batch's own statistics, is known"
            )
        self._layer(node, BatchNorm(self._plain(node, source).number, eps))

    def _relu(self, node: fx.Node, source: fx.Node) -> None:
        self._extend_norm(node, source, rectify=True)

    _relu_ = _relu

    def _max_pool2d(
        self,
        node: fx.Node,
        source: fx.Node,
        kernel: Any,
        stride: Any = (),
        padding: Any = (0, 0),
        dilation: Any = (1, 1),
        ceil_mode: bool = False,
    ) -> None:
        stride = stride or kernel
        plain = list(padding) == [0, 0] and list(dilation) == [1, 1] and not ceil_mode
        if list(kernel) != [2, 2] or list(stride) != [2, 2] or not plain:
            raise self._not_known(node, "only pooling of 2x2 pixels is known")
        self._extend_norm(node, source, pool=2)

    def _extend_norm(self, node: fx.Node, source: fx.Node, pool: int = 1, rectify: bool = False) -> None:
        """Make a pooling or ReLU a part of the normalization before it, which nothing else may see."""
        value = self._plain(node, source)
        norm = self._layers[value.number - 1] if value.number > 0 else None
        last = value.number == len(self._layers)
        alone = len(source.users) == 1
        if not isinstance(norm, BatchNorm) or not last or not alone or (pool > 1 and norm.pool > 1):
            raise self._not_known(node, "it must come behind a normalization, whose only user it is")
        self._layers[-1] = BatchNorm(norm.source, norm.eps, max(pool, norm.pool), rectify or norm.rectify)
        self._shapes[-1] = tuple(node.meta["val"].shape[1:])
        self._values[node] = value

    def _add(self, node: fx.Node, source: fx.Node, other: fx.Node, alpha: float = 1) -> None:
        if isinstance(source, fx.Node) and source.name in self._buffers:
            return  # BatchNorm counts its batches
        if alpha != 1 or not isinstance(other, fx.Node):
            raise self._not_known(node, "only the sum of two features is known")
        one, two = self._plain(node, source).number, self._plain(node, other).number
        if self._shapes[one] != self._shapes[two]:
            raise self._not_known(node, "both features must have one shape")
        self._layer(node, Sum(one, two))

    _add_ = _add

    def _amax(self, node: fx.Node, source: fx.Node, dims: list[int], keepdim: bool = False) -> None:
        self._pool_all(node, source, dims, "largest")

    def _mean(self, node: fx.Node, source: fx.Node, dims: list[int], keepdim: bool = False) -> None:
        self._pool_all(node, source, dims, "mean")

    def _adaptive_avg_pool2d(self, node: fx.Node, source: fx.Node, size: list[int]) -> None:
        self._pool_all(node, source, [2, 3] if list(size) == [1, 1] else [], "mean")

    def _pool_all(self, node: fx.Node, source: fx.Node, dims: list[int], how: str) -> None:
        value = self._plain(node, source)
        if sorted(dim % 4 for dim in dims) != [2, 3]:
            raise self._not_known(node, "only the pooling of all pixels is known")
        self._values[node] = _Value(value.number, pooled=how)

    def _flatten(self, node: fx.Node, source: fx.Node, start: int = 0, end: int = -1) -> None:
        value = self._values[source]
        if not value.pooled or start != 1:
            raise self._not_known(node, "all pixels must be pooled first")
        self._values[node] = value

    def _linear(self, node: fx.Node, source: fx.Node, weight: fx.Node, bias: fx.Node | None = None) -> None:
        value = self._values[source]
        if not value.pooled:
            raise self._not_known(node, "all pixels must be pooled first")
        weights = self._params[weight.name].detach()
        offset = torch.empty(0) if bias is None else self._params[bias.name].detach()
        if self._params[weight.name].requires_grad or (bias and self._params[bias.name].requires_grad):
            raise self._not_known(node, "it must be frozen")
        self._head = Head(value.number, value.pooled == "largest", weights.contiguous(), offset)


def _operation(node: fx.Node) -> str:
    """Return the name of an aten operation without its overload."""
    return str(getattr(node.target, "__name__", node.target)).split(".")[0]
