"""Which part of a step an instruction of its program is of."""

from ssl_jax.plan.hlo import Computation, Instruction, Program

# The innermost call from one of these files, or of a function whose name ends like this, says which part it is of.
FUNCTIONS = {"after_step": "optimiser", "apply_updates": "optimiser"}
FILES = {
    "ssl_jax/augment/": "augmentation",
    "ssl_jax/networks/": "network",
    "ssl_jax/losses/": "loss",
    "ssl_jax/methods/": "loss",
    "ssl_jax/memory.py": "loss",
    "ssl_jax/optimizer.py": "optimiser",
    "optax/transforms/": "optimiser",
    "ssl_jax/rules.py": "monitoring",
    "ssl_jax/evaluate/": "monitoring",
}
PARTS = ("augmentation", "network", "loss", "optimiser", "monitoring", "other")


def part(program: Program, one: Instruction) -> str:
    """Returns the part of the step that an instruction is of."""
    for place in program.stack(one):
        for ending, name in FUNCTIONS.items():
            if place.function.endswith(ending):
                return name
        for path, name in FILES.items():
            if path in place.file:
                return name
    return "other"


def making_part(program: Program, one: Instruction, computation: Computation, steps: int = 4) -> str:
    """Returns the part that an instruction is of; of one that XLA has rewritten, that of what made its operands."""
    found = part(program, one)
    if found == "other" and steps and not program.stack(one):
        for name in one.operands:
            if (earlier := making_part(program, computation[name], computation, steps - 1)) != "other":
                return earlier
    return found


def moving_part(program: Program, one: Instruction, computation: Computation, steps: int = 4) -> str:
    """Returns the part that an instruction is of; of a copy that XLA made, that of what takes or makes the copied."""
    found = part(program, one)
    if found == "other" and steps and not program.stack(one):
        for taker in computation.users.get(one.name, ()):
            if (later := moving_part(program, taker, computation, steps - 1)) != "other":
                return later
        return making_part(program, one, computation)
    return found
