//! What a search asks for.
