"""How many calls of a compiled program are under way."""

import functools

import jax
import jax.numpy as jnp

from ssl_jax import parallel

CALLS = 4


@functools.partial(jax.jit, donate_argnums=0)
def slow(state, x):
    state = jax.lax.fori_loop(0, 300, lambda i, y: jnp.tanh(y @ x), state)
    return state, state.sum()


def test_a_call_waits_for_the_one_before_even_if_its_arrays_are_donated():
    x, call = jnp.eye(300), parallel.paced(slow, lambda result: result[1])
    state, sums = jnp.ones((300, 300)), []
    for _ in range(CALLS):
        state, total = call(state, x)
        assert all(earlier.is_ready() for earlier in sums)
        sums.append(total)
    expected = jnp.ones((300, 300))
    for total in sums:
        expected, again = slow(expected, x)
        assert total == again
    assert (state == expected).all()
