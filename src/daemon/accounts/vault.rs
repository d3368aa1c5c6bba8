//! The vault of a state folder, with the key that the config names.

use crate::config::SecretSource;
use crate::daemon::assemble::ServeError;
use crate::preflight;
use crate::store::Vault;
use crate::tenancy::Secrets;

/// The credential of systemd that holds the key of the secrets.
const CREDENTIAL: &str = "stdiopool-key";

/// Opens the vault with the key from that source, else from the credential; without a key where there is neither.
///
/// # Errors
/// [`ServeError::NoKey`] when the key is not to be had, or is none.
pub(super) async fn vault(source: Option<&SecretSource>) -> Result<Vault, ServeError> {
    let credential = || {
        let dir = std::env::var_os("CREDENTIALS_DIRECTORY")?;
        let file = std::path::Path::new(&dir).join(CREDENTIAL);
        file.exists().then_some(SecretSource::File(file))
    };
    let Some(source) = source.cloned().or_else(credential) else {
        return Ok(Vault::without_key());
    };
    if let Some(why) = preflight::state_key(&source) {
        return Err(ServeError::NoKey(why));
    }
    let key = Secrets::of_operator(&source).await;
    let key = key.map_err(|why| ServeError::NoKey(why.to_string()))?;
    Vault::new(&key).map_err(|error| ServeError::NoKey(error.to_string()))
}
