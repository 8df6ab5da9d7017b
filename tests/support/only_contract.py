"""A contract for import-linter: some modules may import the standard library and a few named packages, however far down.

Import-linter's own ``forbidden`` lists what may not be imported, and so forgets the next dependency.
"""

import sys

from grimp import ImportGraph
from importlinter.application import output
from importlinter.domain import fields
from importlinter.domain.contract import Contract, ContractCheck


class OnlyContract(Contract):
    """``source_modules`` (with what lies below them) import, also through others, no package but ``allowed``."""

    type_name = "only"
    source_modules = fields.SetField(subfield=fields.ModuleField())
    allowed = fields.SetField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        known = {*sys.stdlib_module_names, *self.allowed, *graph_roots(graph)}
        chains = [
            graph.find_shortest_chain(source, found, as_packages=True)
            for source in sorted(module.name for module in self.source_modules)
            for found in sorted(graph.find_upstream_modules(source, as_package=True))
            if found.partition(".")[0] not in known
        ]
        return ContractCheck(kept=not chains, metadata={"chains": chains})

    def render_broken_contract(self, check: ContractCheck) -> None:
        for chain in check.metadata["chains"]:
            output.print_error(" -> ".join(chain or ()))


def graph_roots(graph: ImportGraph) -> set[str]:
    """The packages whose own modules are in the graph."""
    return {name.partition(".")[0] for name in graph.modules if not graph.is_module_squashed(name)}
