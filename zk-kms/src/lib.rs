//! One narrow async trait over key-management services: wrap and unwrap a data key bound to a context.
