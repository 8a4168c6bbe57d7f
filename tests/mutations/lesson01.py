"""For each claim of lesson 01, a change that makes it fail."""

from lessons import Mutation

MUTATIONS = (
    Mutation("model", "three users are in Ukraine", 'env.backend != ""', "False"),
)
