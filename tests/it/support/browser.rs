//! A browser, as far as the tests of upstream OAuth need one.

use http::StatusCode;

/// A browser, as far as it matters: it keeps one cookie.
pub(crate) struct Browser {
    http: reqwest::Client,
    cookie: Option<String>,
}

pub(crate) struct Page {
    pub(crate) status: StatusCode,
    pub(crate) text: String,
    location: Option<String>,
}

impl Browser {
    pub(crate) fn new() -> Self {
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build();
        Self {
            http: http.expect("a client"),
            cookie: None,
        }
    }

    pub(crate) async fn open(&mut self, url: &str) -> Page {
        let mut request = self.http.get(url);
        if let Some(cookie) = &self.cookie {
            request = request.header("cookie", cookie);
        }
        let response = request.send().await.expect("answers");
        let text = |name: &str| {
            let value = response.headers().get(name)?;
            Some(value.to_str().expect("ASCII").to_owned())
        };
        if let Some(set) = text("set-cookie") {
            assert!(
                set.contains("HttpOnly") && set.contains("SameSite=Lax"),
                "{set}"
            );
            self.cookie = set.split(';').next().map(str::to_owned);
        }
        if text("content-type").is_some_and(|media| media.starts_with("text/html")) {
            assert_eq!(text("cache-control").as_deref(), Some("no-store"));
            assert_eq!(text("referrer-policy").as_deref(), Some("no-referrer"));
            let policy = text("content-security-policy").expect("a policy");
            assert!(policy.starts_with("default-src 'none'"), "{policy}");
        }
        Page {
            location: text("location"),
            status: response.status(),
            text: response.text().await.expect("text"),
        }
    }

    /// From the link to where the provider sends it, which it does not open yet.
    pub(crate) async fn until_callback(&mut self, link: &str) -> String {
        let page = self.open(link).await;
        assert_eq!(page.status, StatusCode::OK, "{}", page.text);
        let (_, rest) = page.text.split_once("href=\"").expect("a link");
        let (href, _) = rest.split_once('"').expect("its end");
        let at_provider = self.open(&href.replace("&amp;", "&")).await;
        at_provider.location.expect("sent back")
    }

    pub(crate) async fn authorise(link: &str) -> Page {
        let mut browser = Self::new();
        let callback = browser.until_callback(link).await;
        browser.open(&callback).await
    }
}
