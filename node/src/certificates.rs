//! Certificates are renewed by replacing their files, while everything runs.
//!
//! Now and then the files are read. If they hold something else than before, it is taken for connections made from then on; those that
//! stand stay, so a renewal costs no reconnect. Whoever replaces several files does so one after the other: what does not go together is
//! said once, and tried again when the files change once more. Until then the former ones are used.
//!
//! When each certificate ends is a metric, since one that has ended cuts a region off at its next reconnect.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use config::TlsFiles;
use geo_link::tls;
use metrics::gauge;

use crate::admin::metrics::names;

/// What takes renewed certificates: it reads the files itself. If they change in between, that is seen at the next look.
type Take = Box<dyn Fn(TlsFiles<'_>) -> anyhow::Result<()> + Send>;

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
    read: Option<Contents>,
    take: Take,
}

/// What the files of a certificate, its key and the authorities hold.
#[derive(PartialEq, Eq)]
struct Contents {
    cert: Vec<u8>,
    key: Vec<u8>,
    ca: Option<Vec<u8>>,
}

impl Certificates {
    /// Looks after these files, which were just read, as well. `take` has what they hold by then used, or leaves what was in use.
    pub(crate) fn watch(
        &mut self,
        purpose: &'static str,
        files: TlsFiles<'_>,
        take: impl Fn(TlsFiles<'_>) -> anyhow::Result<()> + Send + 'static,
    ) {
        let [cert, key] = [files.cert, files.key].map(Path::to_owned);
        let ca = files.ca.map(Path::to_owned);
        let mut watched = Watched { purpose, cert, key, ca, read: None, take: Box::new(take) };
        watched.read = watched.contents();
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
        let now = self.contents();
        if now == self.read {
            return;
        }
        self.read = now;
        if self.read.is_none() {
            return;
        }
        match (self.take)(self.files()) {
            Ok(()) => {
                tracing::info!(purpose = self.purpose, "certificates were renewed");
                self.show_end();
            }
            Err(error) => {
                let purpose = self.purpose;
                tracing::warn!(
                    purpose,
                    error = format!("{error:#}"),
                    "certificates were replaced and cannot be used: the former ones still are"
                );
            }
        }
    }

    fn files(&self) -> TlsFiles<'_> {
        TlsFiles { cert: &self.cert, key: &self.key, ca: self.ca.as_deref() }
    }

    fn contents(&self) -> Option<Contents> {
        let purpose = self.purpose;
        Contents::of(self.files())
            .inspect_err(|error| tracing::debug!(purpose, error = format!("{error:#}"), "certificates cannot be read"))
            .ok()
    }

    fn show_end(&self) {
        let end = self.read.as_ref().and_then(|contents| tls::valid_until(&contents.cert).ok());
        if let Some(end) = end {
            gauge!(names::CERTIFICATE_END_TIMESTAMP_SECONDS, "purpose" => self.purpose).set(end as f64);
        }
    }
}

impl Contents {
    fn of(files: TlsFiles<'_>) -> anyhow::Result<Self> {
        let read = |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
        Ok(Self { cert: read(files.cert)?, key: read(files.key)?, ca: files.ca.map(read).transpose()? })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        path::Path,
        sync::{Arc, Mutex},
    };

    use anyhow::ensure;
    use config::TlsFiles;

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
        certificates.watch("test", files, move |files| {
            let texts = [files.cert, files.key].map(|path| fs::read_to_string(path).unwrap());
            ensure!(texts[0] == texts[1], "they do not go together");
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
