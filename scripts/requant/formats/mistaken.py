"""What people take for a model: a file that stands for one, or a page about one."""

STARTS = {
    b"version https://git-lfs": "is a Git LFS pointer, not the file itself: get it with git lfs pull, or download it",
    b"<!doctype html": "is a web page, not the file itself: download the file (the address has /resolve/, not /blob/)",
    b"<html": "is a web page, not the file itself: download the file (the address has /resolve/, not /blob/)",
    b"PK\x03\x04": "is a ZIP archive or a pickle: only GGUF and safetensors files are read",
}


def mistaken(start: bytes) -> str | None:
    """What a file is that begins so, with four bytes or more, and what to do; ``None`` where it is nothing known.

    >>> mistaken(b"<HTML><body>")[:13], mistaken(b"vers")[:12], mistaken(b"GGUF")
    ('is a web page', 'is a Git LFS', None)
    """
    known = start.lower()
    return next((said for begin, said in STARTS.items() if begin.lower().startswith(known[: len(begin)])), None)
