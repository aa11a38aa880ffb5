<?php
// A small web application with an auth endpoint for private and presence channels, without any package.
// Usage: php -S 127.0.0.1:8000 server.php, then open http://127.0.0.1:8000

function setting(string $name, string $default): string
{
    $value = getenv($name);
    return $value === false ? $default : $value;
}

$appId = setting('APP_ID', '1');
$appKey = setting('APP_KEY', 'app-key');
$appSecret = setting('APP_SECRET', 'app-secret');
$curlewHost = setting('CURLEW_HOST', '127.0.0.1');
$curlewPort = (int) setting('CURLEW_PORT', '6001');

// Your application decides who may enter a channel.
function may_enter(string $user, string $channel): bool
{
    return $channel === "private-user-$user" || $channel === 'presence-room';
}

function authorize(?string $user, string $socketId, string $channel): ?array
{
    global $appKey, $appSecret;
    // Sign nothing but a socket id and a channel: another text could be the signature of something else.
    if ($user === null || !may_enter($user, $channel) || !preg_match('/\A\d+\.\d+\z/', $socketId)) {
        return null;
    }
    $text = "$socketId:$channel";
    $answer = [];
    if (str_starts_with($channel, 'presence-')) {
        $answer['channel_data'] = json_encode(['user_id' => $user, 'user_info' => ['name' => $user]]);
        $text .= ':' . $answer['channel_data'];
    }
    $answer['auth'] = $appKey . ':' . hash_hmac('sha256', $text, $appSecret);
    return $answer;
}

function publish(string $channel, string $event, array $data): void
{
    global $appId, $appKey, $appSecret, $curlewHost, $curlewPort;
    $path = "/apps/$appId/events";
    $body = json_encode(['channel' => $channel, 'name' => $event, 'data' => json_encode($data)]);
    $query = http_build_query([ // in the order of the names
        'auth_key' => $appKey,
        'auth_timestamp' => time(),
        'auth_version' => '1.0',
        'body_md5' => md5($body),
    ]);
    $query .= '&auth_signature=' . hash_hmac('sha256', "POST\n$path\n$query", $appSecret);
    $context = stream_context_create(['http' => [
        'method' => 'POST',
        'header' => 'Content-Type: application/json',
        'content' => $body,
        'ignore_errors' => true, // read the text of an error
    ]]);
    $answer = file_get_contents("http://$curlewHost:$curlewPort$path?$query", false, $context);
    if ($answer === false || !str_contains($http_response_header[0], ' 200 ')) {
        throw new RuntimeException('cannot publish: ' . ($answer ?: 'no answer'));
    }
}

function answer(int $status, array|string $body): void
{
    http_response_code($status);
    echo is_string($body) ? $body : json_encode((object) $body);
}

// A field of the form; "name[]=" would make it an array.
function field(string $name): string
{
    $value = $_POST[$name] ?? '';
    return is_string($value) ? $value : '';
}

function is_user(string $name): bool
{
    return preg_match('/\A[a-z0-9]{1,20}\z/', $name) === 1;
}

// The sessions of your application. To keep the example short, there are no passwords.
session_start(['cookie_httponly' => true, 'cookie_samesite' => 'Strict']);
$user = $_SESSION['user'] ?? null;

switch ($_SERVER['REQUEST_METHOD'] . ' ' . parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH)) {
    case 'GET /':
        readfile(__DIR__ . '/index.html');
        break;
    case 'GET /pusher.min.js':
        header('Content-Type: text/javascript');
        readfile(__DIR__ . '/../node_modules/pusher-js/dist/web/pusher.min.js');
        break;
    case 'POST /login':
        if (!is_user(field('name'))) {
            answer(400, 'name: 1 to 20 of a-z and 0-9');
            break;
        }
        session_regenerate_id();
        $_SESSION['user'] = field('name');
        answer(200, ['user' => field('name'), 'key' => $appKey, 'host' => $curlewHost, 'port' => $curlewPort]);
        break;
    case 'POST /pusher/auth':
        $signed = authorize($user, field('socket_id'), field('channel_name'));
        answer($signed ? 200 : 403, $signed ?? 'you may not enter this channel');
        break;
    case 'POST /message':
        if ($user === null) {
            answer(403, 'log in first');
        } elseif (!is_user(field('to'))) {
            answer(400, 'to: the name of a user');
        } else {
            publish('private-user-' . field('to'), 'message', ['from' => $user, 'text' => field('text')]);
            answer(200, []);
        }
        break;
    default:
        answer(404, 'there is nothing here');
}
