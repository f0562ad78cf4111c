//! The templates of `tollgate new` and `add`, whose files are in `gateway/templates/`: the article's four, and the others.

use super::template::Template;

macro_rules! text {
    ($path:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/templates/", $path))
    };
}

macro_rules! bytes {
    ($path:literal) => {
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/templates/", $path))
    };
}

const GO_README: &str = text!("go/README.md.in");
const RUST_README: &str = text!("rust.md");
const JS_README: &str = text!("js/README.md.in");
const PYTHON_README: &str = text!("python/README.md.in");

/// All templates, in the order in which they are listed.
pub(super) const TEMPLATES: [Template; 15] = [
    Template {
        name: "http-go",
        summary: "answers HTTP, in Go",
        manifest: text!("http-go/spin.toml.in"),
        files: &[
            ("go.mod", text!("go/go.mod.in")),
            ("main.go", text!("http-go/main.go.in")),
            ("spin/http.go", text!("http-go/http.go.in")),
            ("spin/abi.go", text!("go/abi.go.in")),
            ("spin/keyvalue.go", text!("go/keyvalue.go.in")),
            ("spin/redis.go", text!("go/redis.go.in")),
            ("spin/variables.go", text!("go/variables.go.in")),
            ("component/main.go", text!("go/component.go.in")),
            ("component/type.go", text!("http-go/type.go.in")),
            ("wit/app.wit", text!("go/app.wit.in")),
            (".gitignore", "*.wasm\n"),
        ],
        component: None,
        readme: GO_README,
    },
    Template {
        name: "http-rust",
        summary: "answers HTTP, in Rust",
        manifest: text!("http-rust/spin.toml.in"),
        files: &[
            ("Cargo.toml", text!("rust/Cargo.toml.in")),
            ("build.rs", text!("rust/build.rs.in")),
            ("src/lib.rs", text!("http-rust/lib.rs.in")),
            (".gitignore", "target/\n"),
        ],
        component: None,
        readme: RUST_README,
    },
    Template {
        name: "redis-go",
        summary: "handles messages on a channel, in Go",
        manifest: text!("redis-go/spin.toml.in"),
        files: &[
            ("go.mod", text!("go/go.mod.in")),
            ("main.go", text!("redis-go/main.go.in")),
            ("spin/messages.go", text!("redis-go/messages.go.in")),
            ("spin/abi.go", text!("go/abi.go.in")),
            ("spin/keyvalue.go", text!("go/keyvalue.go.in")),
            ("spin/redis.go", text!("go/redis.go.in")),
            ("spin/variables.go", text!("go/variables.go.in")),
            ("component/main.go", text!("go/component.go.in")),
            ("component/type.go", text!("redis-go/type.go.in")),
            ("wit/app.wit", text!("go/app.wit.in")),
            (".gitignore", "*.wasm\n"),
        ],
        component: None,
        readme: GO_README,
    },
    Template {
        name: "redis-rust",
        summary: "handles messages on a channel, in Rust",
        manifest: text!("redis-rust/spin.toml.in"),
        files: &[
            ("Cargo.toml", text!("rust/Cargo.toml.in")),
            ("build.rs", text!("rust/build.rs.in")),
            ("src/lib.rs", text!("redis-rust/lib.rs.in")),
            (".gitignore", "target/\n"),
        ],
        component: None,
        readme: RUST_README,
    },
    Template {
        name: "http-rust-kv",
        summary: "answers HTTP from a key-value store, in Rust",
        manifest: text!("http-rust-kv/spin.toml.in"),
        files: &[
            ("Cargo.toml", text!("rust/Cargo.toml.in")),
            ("build.rs", text!("rust/build.rs.in")),
            ("src/lib.rs", text!("http-rust-kv/lib.rs.in")),
            (".gitignore", "target/\n"),
        ],
        component: None,
        readme: RUST_README,
    },
    Template {
        name: "http-js",
        summary: "answers HTTP, in JavaScript",
        manifest: text!("http-js/spin.toml.in"),
        files: &[
            ("package.json", text!("http-js/package.json.in")),
            ("src/index.js", text!("http-js/index.js.in")),
            (".gitignore", "node_modules/\n*.wasm\n"),
        ],
        component: None,
        readme: JS_README,
    },
    Template {
        name: "http-js-kv",
        summary: "answers HTTP from a key-value store, in JavaScript",
        manifest: text!("http-js-kv/spin.toml.in"),
        files: &[
            ("package.json", text!("http-js-kv/package.json.in")),
            ("src/index.js", text!("http-js-kv/index.js.in")),
            ("wit/app.wit", text!("http-js-kv/app.wit.in")),
            (".gitignore", "node_modules/\nwit/deps/\n*.wasm\n"),
        ],
        component: None,
        readme: JS_README,
    },
    Template {
        name: "redis-js",
        summary: "handles messages on a channel, and counts them, in JavaScript",
        manifest: text!("redis-js/spin.toml.in"),
        files: &[
            ("package.json", text!("redis-js/package.json.in")),
            ("src/index.js", text!("redis-js/index.js.in")),
            ("wit/app.wit", text!("redis-js/app.wit.in")),
            (".gitignore", "node_modules/\n*.wasm\n"),
        ],
        component: None,
        readme: JS_README,
    },
    Template {
        name: "http-python",
        summary: "answers HTTP, in Python",
        manifest: text!("http-python/spin.toml.in"),
        files: &[
            ("requirements.txt", text!("python/requirements.txt.in")),
            ("app.py", text!("http-python/app.py.in")),
            (".gitignore", ".venv/\n__pycache__/\n*.wasm\n"),
        ],
        component: None,
        readme: PYTHON_README,
    },
    Template {
        name: "http-python-kv",
        summary: "answers HTTP from a key-value store, in Python",
        manifest: text!("http-python-kv/spin.toml.in"),
        files: &[
            ("requirements.txt", text!("python/requirements.txt.in")),
            ("app.py", text!("http-python-kv/app.py.in")),
            (".gitignore", ".venv/\n__pycache__/\n*.wasm\n"),
        ],
        component: None,
        readme: PYTHON_README,
    },
    Template {
        name: "redis-python",
        summary: "handles messages on a channel, and counts them, in Python",
        manifest: text!("redis-python/spin.toml.in"),
        files: &[
            ("requirements.txt", text!("python/requirements.txt.in")),
            ("app.py", text!("redis-python/app.py.in")),
            (".gitignore", ".venv/\n__pycache__/\n*.wasm\n"),
        ],
        component: None,
        readme: PYTHON_README,
    },
    Template {
        name: "http-c",
        summary: "answers HTTP, in C",
        manifest: text!("http-c/spin.toml.in"),
        files: &[
            ("Makefile", text!("http-c/Makefile.in")),
            ("app.wit", text!("http-c/app.wit.in")),
            ("main.c", text!("http-c/main.c.in")),
            (".gitignore", "bindings/\n*.wasm\n"),
        ],
        component: None,
        readme: text!("http-c/README.md.in"),
    },
    Template {
        name: "http-static",
        summary: "one fixed response, without a component",
        manifest: text!("http-static/spin.toml.in"),
        files: &[],
        component: None,
        readme: text!("http-static/README.md.in"),
    },
    Template {
        name: "static-files",
        summary: "serves the files of a folder, with a component in Rust",
        manifest: text!("static-files/spin.toml.in"),
        files: &[
            ("Cargo.toml", text!("rust/Cargo.toml.in")),
            ("build.rs", text!("rust/build.rs.in")),
            ("src/lib.rs", text!("static-files/lib.rs.in")),
            ("assets/index.html", text!("static-files/index.html.in")),
            (".gitignore", "target/\n"),
        ],
        component: None,
        readme: RUST_README,
    },
    Template {
        name: "static-fileserver",
        summary: "serves the files of a folder, with a prebuilt component",
        manifest: text!("static-fileserver/spin.toml.in"),
        files: &[("assets/index.html", text!("static-files/index.html.in")), (".gitignore", "")],
        component: Some(("fileserver.wasm", bytes!("static-fileserver/fileserver.wasm"))),
        readme: text!("static-fileserver/README.md.in"),
    },
];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use wit_component::{StringEncoding, metadata};
    use wit_parser::Resolve;

    /// Go cannot add a custom section, so the template includes a program that does. This generates the section from the
    /// WIT beside it.
    #[test]
    fn the_go_templates_section_matches_its_wit() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("templates");
        let wit = std::fs::read_to_string(folder.join("go/app.wit.in")).unwrap();
        let mut resolve = Resolve::default();
        let package = resolve.push_str("app.wit", &wit).unwrap();
        for (template, name) in [("http-go", "http"), ("redis-go", "messages")] {
            let world = resolve.select_world(&[package], Some(name)).unwrap();
            let section = STANDARD.encode(metadata::encode(&resolve, world, StringEncoding::UTF8, None).unwrap());
            let lines: Vec<&str> =
                section.as_bytes().chunks(100).map(|line| std::str::from_utf8(line).unwrap()).collect();
            let made = format!(
                "package main\n\n// componentType is the world {name} of wit/app.wit, encoded as wit-component does. Made by a \
                 test; not to be edited.\nconst componentType = `\n{}\n`\n",
                lines.join("\n")
            );
            let path = folder.join(template).join("type.go.in");
            if std::env::var_os("TOLLGATE_GOLDEN").is_some() {
                std::fs::write(&path, &made).unwrap();
            }
            let kept = std::fs::read_to_string(&path).unwrap();
            assert_eq!(kept, made, "TOLLGATE_GOLDEN=write cargo nextest run -p gateway makes {} anew", path.display());
        }
    }
}
