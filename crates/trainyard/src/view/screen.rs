//! The screen that text is formatted for.

use trainyard_present::zone::Zone;

/// A screen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Screen {
    /// The width of the terminal; `None` if the output is not a terminal and may have any width.
    pub(crate) width: Option<u16>,
    /// The time zone for moments.
    pub(crate) zone: Zone,
}
