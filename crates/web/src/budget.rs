//! Budgets of memory: the bytes that bodies or answers may have together, and how many of these one peer may have.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use trainyard_core::principal::Act;

/// Whose bytes are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Account {
    All,
    /// Peers that have shown no valid token.
    Strangers,
    Address(IpAddr),
    /// The holder of the token of this name.
    Token(String),
}

impl Account {
    /// That of the principal of a request.
    pub(crate) fn of(act: &Act) -> Self {
        Self::Token(act.by.name.clone())
    }
}

/// The bytes of each account. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Budget(Arc<Mutex<HashMap<Account, usize>>>);

impl Budget {
    /// An empty share. Its bytes count for each of the accounts, which may have so many.
    pub(crate) fn share(&self, accounts: Vec<(Account, usize)>) -> Share {
        Share {
            budget: self.clone(),
            accounts,
            bytes: 0,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Account, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An account has no room for more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exhausted;

/// The bytes of one body or answer. Returned on drop.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Budget,
    accounts: Vec<(Account, usize)>,
    bytes: usize,
}

impl Share {
    /// Grows to `bytes`, if all accounts have room.
    pub(crate) fn cover(&mut self, bytes: usize) -> Result<(), Exhausted> {
        let more = bytes.saturating_sub(self.bytes);
        if more == 0 {
            return Ok(());
        }
        let mut held = self.budget.lock();
        let has_room = |(account, at_most): &(Account, usize)| {
            held.get(account).copied().unwrap_or(0) + more <= *at_most
        };
        if !self.accounts.iter().all(has_room) {
            return Err(Exhausted);
        }
        for (account, _) in &self.accounts {
            *held.entry(account.clone()).or_default() += more;
        }
        self.bytes += more;
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.bytes == 0 {
            return;
        }
        let mut held = self.budget.lock();
        for (account, _) in &self.accounts {
            let left = held.get(account).copied().unwrap_or(0);
            match left.saturating_sub(self.bytes) {
                0 => held.remove(account),
                left => held.insert(account.clone(), left),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_count_for_each_account_and_are_given_back() {
        let budget = Budget::default();
        let one = |name: &str| {
            budget.share(vec![
                (Account::All, 100),
                (Account::Token(name.to_owned()), 60),
            ])
        };
        let (mut first, mut second, mut other) = (one("ada"), one("ada"), one("bob"));
        assert_eq!(first.cover(50), Ok(()));
        assert_eq!(first.cover(40), Ok(()), "it has more already");
        assert_eq!(second.cover(11), Err(Exhausted));
        assert_eq!(other.cover(51), Err(Exhausted));
        assert_eq!(other.cover(50), Ok(()));
        drop(first);
        assert_eq!(second.cover(50), Ok(()));
        drop((second, other));
        assert!(budget.lock().is_empty());
    }
}
