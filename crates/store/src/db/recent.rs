//! A bounded cache of the values used last.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Keeps at most so many values, and so many bytes; the values used longest ago are dropped first.
///
/// Deliberately simple: there are a few hundred values at most, so searching all of them when one has to
/// go is cheaper than a list next to the map.
#[derive(Debug)]
pub(crate) struct Recent<K, V> {
    most: usize,
    most_bytes: usize,
    inner: Mutex<Inner<K, V>>,
}

#[derive(Debug)]
struct Inner<K, V> {
    uses: u64,
    bytes: usize,
    values: HashMap<K, Used<V>>,
}

#[derive(Debug)]
struct Used<V> {
    last: u64,
    bytes: usize,
    value: V,
}

impl<K: Eq + Hash + Copy, V: Clone> Recent<K, V> {
    pub(crate) fn new(most: usize, most_bytes: usize) -> Self {
        Self {
            most,
            most_bytes,
            inner: Mutex::new(Inner {
                uses: 0,
                bytes: 0,
                values: HashMap::new(),
            }),
        }
    }

    pub(crate) fn get(&self, key: K) -> Option<V> {
        let mut inner = self.locked();
        inner.uses += 1;
        let uses = inner.uses;
        let used = inner.values.get_mut(&key)?;
        used.last = uses;
        Some(used.value.clone())
    }

    /// Keeps a value of about this many bytes. One that is too large for all the room is not kept.
    pub(crate) fn put(&self, key: K, value: V, bytes: usize) {
        let mut inner = self.locked();
        inner.forget(key);
        if bytes > self.most_bytes {
            return;
        }
        inner.uses += 1;
        inner.bytes += bytes;
        let last = inner.uses;
        inner.values.insert(key, Used { last, bytes, value });
        while inner.values.len() > self.most || inner.bytes > self.most_bytes {
            let oldest = inner.values.iter().min_by_key(|(_, used)| used.last);
            let Some(oldest) = oldest.map(|(key, _)| *key) else {
                return;
            };
            inner.forget(oldest);
        }
    }

    pub(crate) fn remove(&self, key: K) {
        self.locked().forget(key);
    }

    fn locked(&self) -> MutexGuard<'_, Inner<K, V>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash, V> Inner<K, V> {
    fn forget(&mut self, key: K) {
        if let Some(used) = self.values.remove(&key) {
            self.bytes -= used.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let recent = Recent::new(2, 100);
        recent.put(1, "a", 1);
        recent.put(2, "b", 1);
        assert_eq!(recent.get(1), Some("a"));
        recent.put(3, "c", 1);
        assert_eq!(
            (recent.get(1), recent.get(2), recent.get(3)),
            (Some("a"), None, Some("c"))
        );
    }

    #[test]
    fn large_values_push_others_out_and_those_beyond_all_room_are_not_kept() {
        let recent = Recent::new(10, 100);
        recent.put(1, "a", 60);
        recent.put(2, "b", 40);
        recent.put(2, "b again", 30);
        assert_eq!(recent.get(1), Some("a"));
        recent.put(3, "c", 40);
        assert_eq!(
            (recent.get(1), recent.get(2), recent.get(3)),
            (Some("a"), None, Some("c"))
        );
        recent.put(1, "vast", 101);
        assert_eq!((recent.get(1), recent.get(3)), (None, Some("c")));
    }
}
