// Steady load on `hello` and `counter` of a gateway that runs already (`make run`): k6 run loadtest/k6/hello.js
// Bounded: 20 virtual users, 20 seconds. It fails when an answer is wrong or one in a hundred takes over 250 ms.
import http from 'k6/http';
import { check } from 'k6';

const port = __ENV.PORT || '8443';

export const options = {
  insecureSkipTLSVerify: true,
  hosts: { 'hello.localhost': '127.0.0.1', 'counter.localhost': '127.0.0.1' },
  scenarios: {
    hello: { executor: 'constant-vus', vus: 16, duration: '20s', exec: 'hello' },
    counter: { executor: 'constant-vus', vus: 4, duration: '20s', exec: 'counter' },
  },
  thresholds: {
    checks: ['rate==1.0'],
    http_req_duration: ['p(99)<250'],
  },
};

export function hello() {
  const answer = http.get(`https://hello.localhost:${port}/`);
  check(answer, {
    'hello answers': (a) => a.status === 200 && a.body.includes('Hello from Tollgate'),
  });
}

export function counter() {
  const answer = http.get(`https://counter.localhost:${port}/k6`);
  check(answer, {
    'counter counts': (a) => a.status === 200 && Number(a.body) > 0,
  });
}
