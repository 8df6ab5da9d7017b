"""Every word that an audit says has its meaning on the page, in both languages."""

from collections.abc import Iterable

import pytest

from requant.audit.forms.content import QUESTIONS
from requant.audit.forms.page import MARKS, TONES
from requant.audit.forms.tensor_map import MISSING
from requant.audit.limits import Limit
from requant.audit.metadata.comparison import Grade
from requant.audit.status import Metadata, Mix, Reading
from requant.documents.schemas import SCHEMAS, read_yaml
from requant.documents.templates import read_words
from requant.quantization.verdict import Verdict

STATUSES: dict[str, Iterable[str]] = {
    "weights": (*Verdict, MISSING), "recipe": Mix, "metadata": Metadata, "coverage": Reading,
}  # fmt: skip


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_word_has_its_meaning(language: str) -> None:
    words = read_words("audit", language)
    assert tuple(STATUSES) == QUESTIONS == tuple(words["statuses"])
    lost = [
        f"{question}: {word}"
        for question, statuses in STATUSES.items()
        for word in map(str, statuses)
        if set(words["statuses"][question].get(word, ())) != {"term", "meaning"}
    ]
    assert lost == []
    assert set(words["grades"]) == set(Grade) and set(words["outcome"]) == {*TONES.values(), "code"}
    assert set(words["limits"]) == set(Limit)
    named_by = read_yaml(SCHEMAS / "audit.schema.yaml")["properties"]["source"]["properties"]["named_by"]["enum"]
    assert {name.rpartition(", ")[2] for name in named_by} == set(words["named_by"])


def test_terms_are_the_words_and_limits_the_sentences() -> None:
    words = read_words("audit", "en")
    assert all(term["term"] == word for terms in words["statuses"].values() for word, term in terms.items())
    assert words["limits"] == {str(limit): limit.sentence for limit in Limit}
    assert set(map(str, STATUSES["weights"])) <= set(MARKS)
