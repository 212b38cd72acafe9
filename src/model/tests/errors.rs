//! What is refused, by the names of node and argument.
