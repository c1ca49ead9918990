//! `trainyard token`

use clap::Subcommand;
use trainyard_api::TokenScope;

use crate::connection::Group;
use crate::failure::Done;
use crate::output::{self, Format, OutputArgs};
use crate::view;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Create a token. Its text is printed once, and not stored
    Create {
        /// The token's name, shown as the actor of its requests
        name: String,
        /// The token may read everything except secrets and the audit log, and change nothing
        #[arg(long)]
        read_only: bool,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// List the tokens, without their texts
    List(OutputArgs),
    /// Revoke a token; it is invalid from then on
    Revoke {
        /// The token's name or id
        token: String,
    },
}

impl Group<Verb> {
    pub(crate) async fn call(self) -> Done {
        let client = self.connection.client()?;
        match self.verb {
            Verb::Create {
                name,
                read_only,
                output,
            } => {
                let scope = if read_only {
                    TokenScope::Read
                } else {
                    TokenScope::Admin
                };
                let made = client.create_token(&name, scope).await?;
                if output.output == Format::Table {
                    // On standard error, so that `TOKEN=$(trainyard token create ci)` works.
                    output::note(&format!("the token of {name}; it is not shown again:"));
                }
                output.show(&made, || made.secret.clone())
            }
            Verb::List(output) => {
                let tokens = client.tokens().await?;
                output.show(&tokens, || {
                    view::token::list(&tokens.items, output.screen())
                })
            }
            Verb::Revoke { token } => {
                client.revoke_token(&token).await?;
                output::text(&format!("{token} is revoked"))
            }
        }
    }
}
