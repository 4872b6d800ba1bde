//! Typed repositories, written once above the waist.
