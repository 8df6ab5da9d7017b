"""A GGUF file as consecutive ranges of bytes: the header, the tensors, and what lies between them."""

from collections.abc import Iterator

from requant.formats.gguf import Header, Tensor, padded


def regions(header: Header) -> Iterator[tuple[int, int, Tensor | None]]:
    """Cut the file into consecutive ranges of bytes: tensors, and what lies before, between and after them."""
    position = 0
    for tensor in sorted(header.tensors, key=lambda tensor: tensor.offset):
        # The header is a range of its own, as the gaps after it must be zero.
        for stop in (header.data_offset, tensor.offset):
            if position < stop:
                yield position, stop, None
                position = stop
        position = tensor.offset + tensor.nbytes
        yield tensor.offset, position, tensor
    yield position, header.size, None


def gaps(header: Header) -> list[tuple[int, int]]:
    """Where padding lies, behind the header's own: first byte and end of each."""
    return [
        (start, stop)
        for start, stop, tensor in regions(header)
        if tensor is None and header.data_offset <= start < stop
    ]


def spare(header: Header) -> int:
    """Bytes of padding that no alignment asks for."""
    return sum(max(0, stop - padded(start, header.alignment)) for start, stop in gaps(header))
