//! The one line that the program writes: see `format`.

use crate::format::{HALF, LINE, PREFIX};

/// The content of a record.
pub struct Facts {
    pub code: i32,
    pub signal: i32,
    pub asked: bool,
    pub out_of_memory: bool,
    pub errno: i32,
}

impl Facts {
    pub const NONE: Self = Self {
        code: 0,
        signal: 0,
        asked: false,
        out_of_memory: false,
        errno: 0,
    };
}

/// The nonce of a line that proves nothing.
pub const NO_NONCE: [u8; HALF] = [b'0'; HALF];

/// The line, ended by a newline.
pub fn line(word: &[u8], facts: &Facts, nonce: &[u8; HALF]) -> [u8; LINE] {
    let mut line = Line {
        bytes: [b' '; LINE],
        used: 0,
    };
    line.text(PREFIX);
    line.text(word);
    line.number(b" code=", facts.code, 3);
    line.number(b" signal=", facts.signal, 2);
    line.number(b" asked=", i32::from(facts.asked), 1);
    line.number(b" oom=", i32::from(facts.out_of_memory), 1);
    line.number(b" errno=", facts.errno, 3);
    line.text(b" nonce=");
    line.text(nonce);
    line.bytes[LINE - 1] = b'\n';
    line.bytes
}

struct Line {
    bytes: [u8; LINE],
    used: usize,
}

impl Line {
    fn text(&mut self, text: &[u8]) {
        for byte in text {
            if let Some(place) = self.bytes.get_mut(self.used) {
                *place = *byte;
                self.used += 1;
            }
        }
    }

    fn number(&mut self, name: &[u8], value: i32, digits: u32) {
        self.text(name);
        for digit in (0..digits).rev() {
            let digit = value / 10_i32.pow(digit) % 10;
            self.text(&[b'0' + digit as u8]);
        }
    }
}
