//! Certificates are renewed by replacing their files, while everything runs.
//!
//! Now and then the files are read. If they hold something else than before, it is taken for connections made from then on; those that
//! stand stay, so a renewal costs no reconnect. Whoever replaces several files does so one after the other: what does not go together is
//! said once, and tried again when the files change once more. Until then the former ones are used.
//!
//! When each certificate ends is a metric, since one that has ended cuts a region off at its next reconnect.

use std::path::{Path, PathBuf};

use config::TlsFiles;
use geo_link::{TlsError, TlsMaterial, tls};
use metrics::gauge;

use crate::{admin::metrics::names, links::material};

/// What takes renewed certificates.
type Take = Box<dyn Fn(&TlsMaterial) -> Result<(), TlsError> + Send>;

/// See the head of this file.
#[derive(Default)]
pub(crate) struct Certificates(Vec<Watched>);

struct Watched {
    /// What they are for: the label of the metric.
    purpose: &'static str,
    cert: PathBuf,
    key: PathBuf,
    ca: Option<PathBuf>,
    /// What was read last; none, if that was not possible.
    read: Option<TlsMaterial>,
    take: Take,
}

impl Certificates {
    /// Looks after these files, which were just read, as well. `take` has what they hold by then used.
    pub(crate) fn watch(
        &mut self,
        purpose: &'static str,
        files: TlsFiles<'_>,
        take: impl Fn(&TlsMaterial) -> Result<(), TlsError> + Send + 'static,
    ) {
        let [cert, key] = [files.cert, files.key].map(Path::to_owned);
        let ca = files.ca.map(Path::to_owned);
        let mut watched = Watched { purpose, cert, key, ca, read: None, take: Box::new(take) };
        watched.read = watched.material();
        watched.show_end();
        self.0.push(watched);
    }

    /// Looks at all files, and has what is new in them used.
    pub(crate) fn look(&mut self) {
        self.0.iter_mut().for_each(Watched::look);
    }
}

impl Watched {
    fn look(&mut self) {
        let now = self.material();
        if now == self.read {
            return;
        }
        self.read = now;
        let Some(material) = &self.read else { return };
        match (self.take)(material) {
            Ok(()) => {
                tracing::info!(purpose = self.purpose, "certificates were renewed");
                self.show_end();
            }
            Err(error) => {
                let purpose = self.purpose;
                tracing::warn!(purpose, %error, "certificates were replaced and cannot be used: the former ones still are");
            }
        }
    }

    fn material(&self) -> Option<TlsMaterial> {
        let files = TlsFiles { cert: &self.cert, key: &self.key, ca: self.ca.as_deref() };
        let purpose = self.purpose;
        material(files).inspect_err(|error| tracing::debug!(purpose, %error, "certificates cannot be read")).ok()
    }

    fn show_end(&self) {
        let end = self.read.as_ref().and_then(|material| tls::valid_until(&material.cert_pem).ok());
        if let Some(end) = end {
            gauge!(names::CERTIFICATE_END_TIMESTAMP_SECONDS, "purpose" => self.purpose).set(end as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        path::Path,
        sync::{Arc, Mutex},
    };

    use config::TlsFiles;
    use geo_link::TlsError;

    use super::Certificates;

    #[test]
    fn what_is_new_in_the_files_is_taken_once_and_what_does_not_fit_is_tried_when_they_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let write = |name: &str, text: &str| fs::write(path(name), text).unwrap();
        ["cert", "key", "ca"].into_iter().for_each(|name| write(name, "1"));
        let (cert, key, ca) = (path("cert"), path("key"), path("ca"));
        let taken = Arc::<Mutex<Vec<String>>>::default();
        let takes = taken.clone();
        let mut certificates = Certificates::default();
        let files = TlsFiles { cert: &cert, key: &key, ca: Some(Path::new(&ca)) };
        certificates.watch("test", files, move |material| {
            let texts = [&material.cert_pem, &material.key_pem].map(|pem| String::from_utf8(pem.clone()).unwrap());
            if texts[0] != texts[1] {
                return Err(TlsError::Unusable("they do not go together".to_owned()));
            }
            takes.lock().unwrap().push(texts.concat());
            Ok(())
        });
        let mut look = || {
            certificates.look();
            certificates.look();
            taken.lock().unwrap().concat()
        };
        assert_eq!(look(), "");
        write("cert", "2");
        assert_eq!(look(), "");
        write("key", "2");
        assert_eq!(look(), "22");
        fs::remove_file(path("ca")).unwrap();
        assert_eq!(look(), "22");
        write("ca", "1");
        assert_eq!(look(), "2222", "what could not be read may be another one");
    }
}
