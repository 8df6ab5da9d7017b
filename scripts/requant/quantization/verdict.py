"""What an audit says of the weights: the words and their exit codes; docs/verdicts.md explains them."""

from requant.ground.exit_codes import ExitCode, Status


class Verdict(Status):
    """What was found of a tensor, or of all of them."""

    EXACT = "exact", ExitCode.OK
    NEAR = "near", ExitCode.OK
    CONSISTENT = "consistent", ExitCode.UNCHECKED
    MISMATCH = "mismatch", ExitCode.AGAINST
    UNCHECKED = "unchecked", ExitCode.UNCHECKED
