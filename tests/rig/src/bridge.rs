//! A network bridge of a test's own.
//!
//! A dockerd without one would use, or remove, the bridge of the machine's own Docker engine. Containers on it reach
//! the host at its address, and nothing else: forwarding is off.

use std::net::Ipv4Addr;
use std::process::Command;

/// How many bridges there can be at the same time.
const AT_MOST: u8 = 250;

/// A bridge; removed when it is dropped.
#[derive(Debug)]
pub struct Bridge {
    name: String,
    address: Ipv4Addr,
}

impl Bridge {
    /// Makes one, with a name and a network of its own.
    ///
    /// # Panics
    /// Without the right to.
    #[must_use]
    pub fn new() -> Self {
        for number in 0..AT_MOST {
            let bridge = Self {
                name: format!("tyrig{number}"),
                address: Ipv4Addr::new(10, 208 + number / 16, number % 16 * 16, 1),
            };
            // The kernel refuses a name that is taken, so two tests cannot get the same one.
            if ip(&["link", "add", "name", &bridge.name, "type", "bridge"]).is_ok() {
                // Room for a thousand containers and more: 4,094, of which a bridge takes 1,024.
                let network = format!("{}/20", bridge.address);
                // Unless it is given one, a bridge takes the lowest hardware address of what is
                // plugged in, and changes it under the connections that containers have open.
                let hardware = format!("02:0a:d5:{number:02x}:00:01");
                ip(&["link", "set", &bridge.name, "address", &hardware]).unwrap();
                ip(&["addr", "add", &network, "dev", &bridge.name]).unwrap();
                ip(&["link", "set", &bridge.name, "up"]).unwrap();
                return bridge;
            }
            // Not ours to remove.
            std::mem::forget(bridge);
        }
        let refusal = ip(&["link", "add", "name", "tyrigx", "type", "bridge"]);
        panic!("no bridge can be made, be root and remove old ones named tyrig*: {refusal:?}")
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The host's address on it.
    #[must_use]
    pub const fn address(&self) -> Ipv4Addr {
        self.address
    }
}

impl Default for Bridge {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let _ = ip(&["link", "del", &self.name]);
    }
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .map_err(|error| format!("ip: {error}"))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}
