//! delink
