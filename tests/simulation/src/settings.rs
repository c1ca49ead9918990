//! How a history is set up, apart from its seed.

/// How a history is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Whether containers carry the init with its start latch and completion marker: started twice,
    /// the program runs once; an exit code 0 without a marker proves nothing.
    pub latch: bool,
    pub mutation: Option<Mutation>,
    /// Whether to keep what happened, line by line. Costs time; changes nothing else.
    pub trace: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            latch: true,
            mutation: None,
            trace: false,
        }
    }
}

/// A mistake in a simulated part. None of them is in the product; each must be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mutation {
    /// The store takes writes under any fence.
    StoreIgnoresFences,
    /// The client removes a container whose name is taken, and creates it again.
    PurgesAndCreatesAgain,
    /// The client takes an exit code 0 for a success, with or without a completion marker.
    TrustsExitCodeAlone,
    /// The store takes what is missing in one listing for lost.
    AbsentMeansLost,
    /// The store never says that an attempt has ended, so nothing removes what a supervisor left.
    NeverSweeps,
    /// The store counts free slots of pools and forgets who holds them.
    ForgetsPools,
}

impl Mutation {
    pub const ALL: [Self; 6] = [
        Self::StoreIgnoresFences,
        Self::PurgesAndCreatesAgain,
        Self::TrustsExitCodeAlone,
        Self::AbsentMeansLost,
        Self::NeverSweeps,
        Self::ForgetsPools,
    ];

    /// The word on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::StoreIgnoresFences => "store-ignores-fences",
            Self::PurgesAndCreatesAgain => "purges-and-creates-again",
            Self::TrustsExitCodeAlone => "trusts-exit-code-alone",
            Self::AbsentMeansLost => "absent-means-lost",
            Self::NeverSweeps => "never-sweeps",
            Self::ForgetsPools => "forgets-pools",
        }
    }

    /// Reads the word.
    ///
    /// # Errors
    /// The words there are.
    pub fn from_word(word: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|mutation| mutation.as_str() == word)
            .ok_or_else(|| {
                let words = Self::ALL.map(Self::as_str).join(", ");
                format!("no such mutation; there are {words}")
            })
    }
}
