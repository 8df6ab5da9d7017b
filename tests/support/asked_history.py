"""What an audit answers about metadata where the weights are on a hub, for calls in a process of their own."""

from collections.abc import Mapping

from requant.audit.answers import MetadataAnswer, answer_metadata
from requant.audit.metadata import history
from requant.audit.named_weights import open_weights
from requant.audit.subject.claims import infer
from requant.audit.subject.subject import Subject
from requant.conversion.metadata import expected_metadata
from requant.ground.errors import PlaceError
from support.small_checkpoint import header


def tell(weights: str, files: Mapping[str, bytes], most: int = history.MOST) -> None:
    """Say in an error what is answered of a quant whose header is what the converter makes of ``files``."""
    history.MOST = most
    named = open_weights(weights)
    with named.place:
        made = header(expected_metadata(files).values)
        subject = Subject(named.place, named.place.open(named.place.names[0]), "x.gguf", made, infer(made), None)
        answer: MetadataAnswer = answer_metadata(subject, named, frozenset())
    raise PlaceError(f"{answer.status}: {answer.sentence}")
