"""The reference: learners that let torch differentiate, for any policy on any device."""
