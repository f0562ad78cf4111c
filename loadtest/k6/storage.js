// One write to nine reads of a key, 200 a second: k6 run loadtest/k6/storage.js
import { check } from 'k6';
import { common, get, post } from './lib.js';

export const options = {
  ...common,
  scenarios: { storage: { executor: 'constant-arrival-rate', rate: 200, duration: '20s', preAllocatedVUs: 20, maxVUs: 200 } },
  thresholds: { checks: ['rate==1.0'], http_req_duration: ['p(99)<100'] },
};

export function setup() {
  post('kv', '/-/set/k6', 'a value');
}

export default function () {
  const answer = __ITER % 10 ? get('kv', '/-/get/k6') : post('kv', '/-/set/k6', 'a value');
  check(answer, { 'the value, or that it is set': (a) => a.status === 200 && ['a value', 'set'].includes(a.body) });
}
