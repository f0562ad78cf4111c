// 300 requests a second for as long as MINUTES says (5, at most 60): k6 run -e MINUTES=30 loadtest/k6/soak.js
import { check } from 'k6';
import { common, get, page } from './lib.js';

const minutes = Math.min(Number(__ENV.MINUTES || 5), 60);

export const options = {
  ...common,
  scenarios: {
    soak: { executor: 'constant-arrival-rate', rate: 300, duration: `${minutes}m`, preAllocatedVUs: 30, maxVUs: 300 },
  },
  thresholds: { checks: ['rate==1.0'], http_req_duration: ['p(99)<100'] },
};

export default function () {
  if (__ITER % 2) {
    page();
  } else {
    check(get('kv', '/-/get/nothing'), { 'storage answers': (a) => a.status === 200 });
  }
}
