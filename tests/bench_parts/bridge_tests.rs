use crate::bridge::*;

#[test]
fn a_bridge_is_read_with_and_without_options() {
    let plain: Bridge = "gw=http://127.0.0.1:8000/mcp".parse().expect("right");
    let expected = Bridge {
        name: "gw".to_owned(),
        address: "127.0.0.1:8000".to_owned(),
        path: "/mcp".to_owned(),
        pid: None,
        tool: "echo".to_owned(),
        argument: "message".to_owned(),
    };
    assert_eq!(plain, expected);
    let all: Bridge = "b=http://localhost/a?x=1,pid=42,argument=text,tool=say"
        .parse()
        .expect("right");
    assert_eq!(all.address, "localhost:80");
    assert_eq!(all.path, "/a?x=1");
    assert_eq!(all.pid, Some(42));
    assert_eq!((all.tool.as_str(), all.argument.as_str()), ("say", "text"));
}

#[test]
fn a_mistake_is_named() {
    let said = |text: &str| text.parse::<Bridge>().expect_err("wrong").to_string();
    assert!(said("http://x/").starts_with("`http://x/` is not NAME=URL"));
    assert!(said("=http://x/").contains("is not NAME=URL"));
    assert!(said("stdiopool=http://x/").contains("another name"));
    assert!(said("a=nonsense").contains("is no URL"));
    assert!(said("a=https://x/").contains("no TLS"));
    assert!(said("a=http://x/,pid=me").contains("`me`"));
    assert!(said("a=http://x/,color=red").contains("no option `color`"));
    assert!(said("a=http://x/,pid").contains("is not NAME=URL"));
}

#[test]
fn another_build_is_a_name_and_a_binary() {
    let path = std::env::current_exe().expect("a path");
    let text = format!("old={}", path.display());
    let build: OtherBuild = text.parse().expect("a build");
    assert_eq!((build.name.as_str(), &build.binary), ("old", &path));
    let refused = |text: &str| text.parse::<OtherBuild>().expect_err(text).to_string();
    assert!(refused("old").contains("NAME=PATH"));
    assert!(refused("=x").contains("NAME=PATH"));
    assert!(refused(&format!("stdiopool={}", path.display())).contains("already"));
    assert!(refused("old=/nothing/here").contains("/nothing/here"));
}
