"""The fast learners: compiled code for multilayer perceptrons on the CPU."""
