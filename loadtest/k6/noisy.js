// One tenant computes without end on 32 connections, another gets 100 requests a second: k6 run loadtest/k6/noisy.js
import { check } from 'k6';
import { common, get, page } from './lib.js';

export const options = {
  ...common,
  scenarios: {
    quiet: { executor: 'constant-arrival-rate', rate: 100, duration: '20s', preAllocatedVUs: 20, exec: 'quiet' },
    noisy: { executor: 'constant-vus', vus: 32, startTime: '5s', duration: '15s', exec: 'noisy' },
  },
  thresholds: { checks: ['rate==1.0'], 'http_req_waiting{scenario:quiet}': ['p(99)<50'] },
};

export function quiet() {
  page();
}

export function noisy() {
  check(get('noisy', '/loop'), { 'it is stopped by its fuel': (a) => a.status === 502 });
}
