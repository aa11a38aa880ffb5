<?php
// A receiver of webhooks, without any package: it verifies the signature and writes the events to the log.
// Usage: php -S 127.0.0.1:8001 receiver.php, then set the `url` of a webhook to http://127.0.0.1:8001/

$key = getenv('APP_KEY') ?: 'app-key';
$secrets = array_filter([getenv('APP_SECRET') ?: 'app-secret', getenv('PREVIOUS_SECRET')]);

// Your application acts on an event. It may come twice, so doing this again must do no harm.
function handle(array $event, int $timeMs): void
{
    error_log(json_encode($event + ['time_ms' => $timeMs], JSON_UNESCAPED_UNICODE | JSON_UNESCAPED_SLASHES));
}

// The signature covers these bytes: do not parse the body and encode it again.
$body = file_get_contents('php://input');
$signature = $_SERVER['HTTP_X_PUSHER_SIGNATURE'] ?? '';
$valid = ($_SERVER['HTTP_X_PUSHER_KEY'] ?? '') === $key;
$known = false;
foreach ($secrets as $secret) {
    $known = $known || hash_equals(hash_hmac('sha256', $body, $secret), $signature);
}
if (!$valid || !$known) {
    http_response_code(401);
    exit("wrong signature\n");
}
$batch = json_decode($body, true);
foreach ($batch['events'] as $event) {
    handle($event, $batch['time_ms']);
}
