// Shared by all scripts here: where the gateway is (PORT, default 8443), and what an answer must be.
import http from 'k6/http';
import { check } from 'k6';

const port = __ENV.PORT || '8443';
const names = ['hello', 'kv', 'noisy', 'limited', ...Array.from({ length: 100 }, (_, n) => `cold${n}`)];

export const common = {
  insecureSkipTLSVerify: true,
  hosts: Object.fromEntries(names.map((name) => [`${name}.localhost`, '127.0.0.1'])),
};

export function get(name, path, tags) {
  return http.get(`https://${name}.localhost:${port}${path}`, { tags: tags || {} });
}

export function post(name, path, body) {
  return http.post(`https://${name}.localhost:${port}${path}`, body);
}

export function page(name) {
  const answer = get(name || 'hello', '/');
  check(answer, { 'the page is whole': (a) => a.status === 200 && a.body.endsWith('one request.</p>\n') });
}
