//! How things are said to people, on a terminal and on a page: durations, numbers, moments in a time zone, states,
//! events, and the picture of a DAG. Pure functions, without colours: these belong to the medium.

pub mod event;
pub mod graph;
pub mod lanes;
pub mod quantity;
pub mod state;
pub mod zone;
