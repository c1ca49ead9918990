//! Thousands of histories in which everything fails, and the mistakes that they must find.

mod kit;

mod histories_hold;
mod kept_seeds_hold;
mod mistakes_are_found;
mod nights_go_on;
mod seeds_repeat;
