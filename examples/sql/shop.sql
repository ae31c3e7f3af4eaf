-- A database to try the example with.
create table customers (id integer, name text, since date);
insert into customers values (1, 'Ada', '2024-05-01'), (2, 'Grace', '2025-11-12'), (3, 'Margaret', '2026-01-02');

create table orders (id integer, customer_id integer, placed_at timestamp, total decimal(10, 2));
insert into orders values
    (1, 1, '2026-01-01 09:30:00', 12.50), (2, 2, '2026-01-02 00:00:00', 8.00), (3, 1, '2026-01-02 17:45:10', 99.95);
