//! Names of members that are stdiopool's own.

/// Under which a config stands in `_meta`, and its schema in `capabilities.experimental`.
pub const CONFIG: &str = "dev.stdiopool/config";
/// Under which a server that asks for it is told who calls, in `_meta`. Only stdiopool says that.
pub const IDENTITY: &str = "dev.stdiopool/identity";
/// A caller's config as a member of the parameters.
pub const CLIENT_CONFIG: &str = "clientConfig";
