//! The page, what it looks at, and who may act from it.

use super::*;
use crate::admin::overview::Overview;

const HTML: (&str, &str) = (
    "accept",
    "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
);

#[tokio::test]
async fn a_browser_gets_the_page_and_curl_the_list() {
    let app = || app(&Arc::default());
    let (status, headers, page) = send(app(), Method::GET, "/", &[HTML]).await;
    assert_eq!(status, StatusCode::OK);
    assert!(
        page.to_ascii_lowercase().starts_with("<!doctype html>"),
        "{page}"
    );
    assert_eq!(headers[header::CONTENT_TYPE], "text/html; charset=utf-8");
    assert_eq!(headers[header::CACHE_CONTROL], "no-cache");
    assert_eq!(headers[header::VARY], "accept");
    assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    let policy = headers[header::CONTENT_SECURITY_POLICY]
        .to_str()
        .expect("text");
    for rule in [
        "default-src 'none'",
        "connect-src 'self'",
        "frame-ancestors 'none'",
    ] {
        assert!(policy.contains(rule), "{policy}");
    }
    assert!(
        !policy.contains("unsafe") && !policy.contains("http"),
        "{policy}"
    );
    let etag = headers[header::ETAG].to_str().expect("text").to_owned();
    let known = [HTML, ("if-none-match", &format!("\"x\", W/{etag}"))];
    let (status, headers, body) = send(app(), Method::GET, "/", &known).await;
    assert_eq!((status, body.as_str()), (StatusCode::NOT_MODIFIED, ""));
    assert_eq!(headers[header::ETAG], etag);
    let (status, _, body) = send(app(), Method::HEAD, "/", &[HTML]).await;
    assert_eq!((status, body.as_str()), (StatusCode::OK, ""));
    for accept in ["*/*", "application/json", "text/htmlx"] {
        let (_, headers, list) = send(app(), Method::GET, "/", &[("accept", accept)]).await;
        assert!(list.starts_with("stdiopool admin\n"), "{accept}: {list}");
        assert_eq!(headers[header::CACHE_CONTROL], "no-store");
    }
    for path in ["/index.html", "/assets/../index.html", "/assets/"] {
        let (status, ..) = send(app(), Method::GET, path, &[HTML]).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
    }
}

/// A page that was built names its scripts and styles.
#[tokio::test]
async fn what_the_page_names_is_there_and_is_kept_where_its_name_tells_what_is_in_it() {
    let app = || app(&Arc::default());
    let (_, _, page) = send(app(), Method::GET, "/", &[HTML]).await;
    let named = page.split('"').map(|named| named.trim_start_matches('.'));
    for named in named.filter(|named| named.starts_with("/assets/")) {
        let (status, headers, _) = send(app(), Method::GET, named, &[]).await;
        assert_eq!(status, StatusCode::OK, "{named}");
        let caching = headers[header::CACHE_CONTROL].to_str().expect("text");
        assert_eq!(caching, "public, max-age=31536000, immutable");
        assert_ne!(headers[header::CONTENT_TYPE], "application/octet-stream");
        assert!(headers.contains_key(header::CONTENT_SECURITY_POLICY));
    }
    for inline in ["<style", "style=\"", "onclick", "javascript:", "src=\"http"] {
        assert!(!page.contains(inline), "{inline} in {page}");
    }
}

#[tokio::test]
async fn the_page_needs_no_token_and_all_that_it_shows_does() {
    let options = options("127.0.0.1:9090", Some("s3cret"));
    let app = router(Arc::<Fake>::default(), Metrics::new(), options).expect("has a token");
    let ask =
        |path, headers: &'static [(&str, &str)]| send(app.clone(), Method::GET, path, headers);
    assert_eq!(ask("/", &[HTML]).await.0, StatusCode::OK);
    assert_eq!(ask("/", &[]).await.0, StatusCode::UNAUTHORIZED);
    for path in [
        "/api/v1/overview",
        "/api/v1/history",
        "/metrics",
        "/assets/none.js",
    ] {
        assert_eq!(
            ask(path, &[HTML]).await.0,
            StatusCode::UNAUTHORIZED,
            "{path}"
        );
    }
    let (status, ..) = send(app.clone(), Method::POST, "/", &[HTML]).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    let elsewhere = [HTML, ("host", "evil.example")];
    let (status, ..) = send(app.clone(), Method::GET, "/", &elsewhere).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let known = [("authorization", "Bearer s3cret")];
    let (status, ..) = send(app, Method::GET, "/api/v1/overview", &known).await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn the_page_acts_and_no_other_page_does() {
    let fake = Arc::new(Fake::default());
    let path = "/api/v1/workers/w7/stop";
    let act = |headers: Vec<(&'static str, &'static str)>| {
        let app = app(&fake);
        async move { send(app, Method::POST, path, &headers).await.0 }
    };
    let own = ("origin", "http://127.0.0.1:9090");
    assert_eq!(act(vec![own]).await, StatusCode::ACCEPTED);
    let same = ("sec-fetch-site", "same-origin");
    assert_eq!(act(vec![own, same]).await, StatusCode::ACCEPTED);
    let named = [
        ("host", "localhost:9090"),
        ("origin", "http://localhost:9090"),
    ];
    assert_eq!(act(named.to_vec()).await, StatusCode::ACCEPTED);
    for origin in [
        "null",
        "",
        "http://127.0.0.1:9091",
        "http://localhost:9090",
        "http://127.0.0.1:9090.evil.example",
        "http://evil.example/127.0.0.1:9090",
        "ftp://127.0.0.1:9090",
        "127.0.0.1:9090",
    ] {
        assert_eq!(
            act(vec![("origin", origin)]).await,
            StatusCode::FORBIDDEN,
            "{origin}"
        );
    }
    assert_eq!(act(vec![own, own]).await, StatusCode::FORBIDDEN);
    for site in ["cross-site", "same-site"] {
        let site = ("sec-fetch-site", site);
        assert_eq!(act(vec![own, site]).await, StatusCode::FORBIDDEN);
        assert_eq!(act(vec![site]).await, StatusCode::FORBIDDEN);
    }
    assert_eq!(fake.done.lock().len(), 3);
}

#[tokio::test]
async fn parameters_of_an_overview_are_checked() {
    let (status, told) = get("/api/v1/overview?limit=100&sort=name&search=x").await;
    assert_eq!(status, StatusCode::OK);
    let told: Overview = serde_json::from_value(told).expect("an overview");
    assert_eq!((told.every_ms, told.tenants.total), (2_000, 0));
    assert!(told.status.circuits.is_empty() || told.circuits.total == 0);
    for wrong in [
        "limit=0",
        "limit=101",
        "limit=x",
        "sort=age",
        "follow=perhaps",
    ] {
        let (status, said) = get(&format!("/api/v1/overview?{wrong}")).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{wrong}: {said}");
    }
    let (status, told) = get("/api/v1/history?points=10").await;
    assert_eq!((status, &told["len"]), (StatusCode::OK, &json!(0)));
    for wrong in ["points=0", "points=1441"] {
        let (status, said) = get(&format!("/api/v1/history?{wrong}")).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{wrong}: {said}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_followed_overview_comes_at_once_and_each_two_seconds_and_only_while_it_is_read() {
    let fake = Arc::new(Fake::default());
    let request = Request::get("/api/v1/overview?follow=true&limit=5")
        .header("host", "localhost")
        .body(Body::empty())
        .expect("a request");
    let response = app(&fake).oneshot(request).await.expect("infallible");
    assert_eq!(
        response.headers()[header::CONTENT_TYPE],
        "text/event-stream"
    );
    assert_eq!(fake.looks.load(Ordering::Relaxed), 0, "nobody has read yet");
    let mut body = response.into_body().into_data_stream();
    let parser = &mut sse::Parser::new(100_000);
    let begun = tokio::time::Instant::now();
    for seconds in [0, 2, 4] {
        let told = take(&mut body, parser, 1).await;
        let overview: Overview = serde_json::from_str(&told[0].1).expect("an overview");
        assert_eq!((overview.at_ms, &told[0].0), (1_772_373_750_000, &None));
        assert_eq!(begun.elapsed().as_secs(), seconds);
    }
    assert_eq!(fake.looks.load(Ordering::Relaxed), 3);
    drop(body);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(
        fake.looks.load(Ordering::Relaxed),
        3,
        "nobody reads any more"
    );
}

#[tokio::test]
async fn only_what_can_hibernate_does() {
    let fake = Arc::new(Fake::default());
    let act = |id: &str| {
        let path = format!("/api/v1/workers/{id}/hibernate");
        let app = app(&fake);
        async move {
            let (status, _, body) = send(app, Method::POST, &path, &[]).await;
            (status, body)
        }
    };
    let (status, said) = act("w7").await;
    assert_eq!(status, StatusCode::ACCEPTED);
    assert!(said.contains("hibernating w7"), "{said}");
    let (status, said) = act("w5").await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert_eq!(
        said,
        r#"{"error":"w5 has 2 requests in flight","reason":"unavailable"}"#
    );
    assert_eq!(act("w9").await.0, StatusCode::NOT_FOUND);
    assert_eq!(act("seven").await.0, StatusCode::BAD_REQUEST);
    let (status, _) = get("/api/v1/workers/w7/hibernate").await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(
        *fake.done.lock(),
        ["hibernate w7", "hibernate w5", "hibernate w9"]
    );
}

#[tokio::test]
async fn one_that_is_over_is_told_with_what_it_went_through() {
    let (_, row) = get("/api/v1/ended?worker=w6").await;
    assert_eq!(row[0]["timeline"][0]["state"], "starting");
    assert_eq!(get("/api/v1/ended?worker=w9").await.1, json!([]));
    let (_, rows) = get("/api/v1/ended").await;
    assert!(rows[0].get("timeline").is_none(), "{rows}");
    assert_eq!(
        get("/api/v1/ended?worker=six").await.0,
        StatusCode::BAD_REQUEST
    );
}
