//! A bounded cache of the values used last.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

/// Keeps at most `capacity` values; the value used longest ago is dropped first.
///
/// Deliberately simple: the capacities here are a few hundred, so searching all values when one has to
/// go is cheaper than a list next to the map.
#[derive(Debug)]
pub(crate) struct Recent<K, V> {
    capacity: usize,
    inner: Mutex<Inner<K, V>>,
}

#[derive(Debug)]
struct Inner<K, V> {
    uses: u64,
    values: HashMap<K, (u64, V)>,
}

impl<K: Eq + Hash + Copy, V: Clone> Recent<K, V> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            inner: Mutex::new(Inner {
                uses: 0,
                values: HashMap::new(),
            }),
        }
    }

    pub(crate) fn get(&self, key: K) -> Option<V> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.uses += 1;
        let uses = inner.uses;
        let (used, value) = inner.values.get_mut(&key)?;
        *used = uses;
        Some(value.clone())
    }

    pub(crate) fn put(&self, key: K, value: V) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.uses += 1;
        let uses = inner.uses;
        inner.values.insert(key, (uses, value));
        if inner.values.len() > self.capacity
            && let Some(oldest) = inner
                .values
                .iter()
                .min_by_key(|(_, (used, _))| *used)
                .map(|(key, _)| *key)
        {
            inner.values.remove(&oldest);
        }
    }

    pub(crate) fn remove(&self, key: K) {
        self.inner
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values
            .remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let recent = Recent::new(2);
        recent.put(1, "a");
        recent.put(2, "b");
        assert_eq!(recent.get(1), Some("a"));
        recent.put(3, "c");
        assert_eq!(
            (recent.get(1), recent.get(2), recent.get(3)),
            (Some("a"), None, Some("c"))
        );
    }
}
