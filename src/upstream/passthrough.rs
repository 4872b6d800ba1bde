//! The transparent client: hyper's connection API with a pool per worker.
