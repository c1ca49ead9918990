//! Secrets are compared in constant time or not at all: their types have no `==`, so that none can slip in.

use secrecy::SecretString;
use trainyard_api::{ChangeRepo, NewRepo, RepoSaved, SecretValue, TokenMade};
use trainyard_forge::webhook::{SignatureClaim, Signed};
use trainyard_store::{RepoCredentials, SecretKey};

/// Does not compile for a type that has `==`: the call would be ambiguous.
macro_rules! has_no_equals {
    ($($kind:ty),* $(,)?) => {
        $({
            trait EitherWay<A> {
                fn resolves() {}
            }
            struct WithEquals;
            impl<T: ?Sized> EitherWay<()> for T {}
            impl<T: ?Sized + PartialEq> EitherWay<WithEquals> for T {}
            <$kind as EitherWay<_>>::resolves();
        })*
    };
}

#[test]
fn class_03_types_of_secrets_have_no_equals() {
    has_no_equals!(
        SecretString,
        SignatureClaim,
        Signed,
        RepoCredentials,
        SecretKey,
        ChangeRepo,
        NewRepo,
        RepoSaved,
        SecretValue,
        TokenMade,
    );
}
