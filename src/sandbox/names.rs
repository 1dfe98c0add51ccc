//! Names, places and questions for the stand-in's people.

use fastrand::Rng;

const FAMILY: [&str; 20] = [
    "王", "李", "张", "刘", "陈", "杨", "赵", "黄", "周", "吴", "徐", "孙", "胡", "朱", "高", "林", "何", "郭", "马",
    "欧阳",
];
const GIVEN: [&str; 20] = [
    "伟", "芳", "娜", "敏", "静", "秀英", "丽", "强", "磊", "洋", "艳", "勇", "军", "杰", "娟", "涛", "超", "明", "霞",
    "子涵",
];
const PLACES: [&str; 10] = [
    "四川省成都市",
    "浙江省杭州市",
    "广东省深圳市",
    "江苏省南京市",
    "北京市海淀区",
    "上海市浦东新区",
    "湖北省武汉市",
    "陕西省西安市",
    "福建省厦门市",
    "重庆市渝中区",
];
const PRODUCTS: [&str; 8] =
    ["全屋定制", "少儿英语", "植发咨询", "婚纱摄影", "瑜伽年卡", "二手车置换", "留学规划", "企业记账"];
const QUESTIONS: [&str; 8] = [
    "请问价格是多少？",
    "周末可以预约吗？",
    "地址在哪里",
    "有没有优惠活动~",
    "麻烦加我微信",
    "可以先试听吗",
    "多久能发货？",
    "\"套餐\"都包含什么 & 有发票吗",
];
const BASE62: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

fn one<'a>(rng: &mut Rng, words: &[&'a str]) -> &'a str {
    rng.choice(words).copied().unwrap_or_default()
}

/// A person's name.
pub fn person(rng: &mut Rng) -> String {
    format!("{}{}", one(rng, &FAMILY), one(rng, &GIVEN))
}

/// Where they live.
pub fn place(rng: &mut Rng) -> &'static str {
    one(rng, &PLACES)
}

/// What they want.
pub fn product(rng: &mut Rng) -> &'static str {
    one(rng, &PRODUCTS)
}

/// What they ask.
pub fn question(rng: &mut Rng) -> &'static str {
    one(rng, &QUESTIONS)
}

/// An id like the vendor's: 27 characters of base 62.
pub fn track_id(rng: &mut Rng) -> String {
    let mut id = String::from("2l");
    id.extend((0..25).map(|_| rng.choice(BASE62).map_or('0', |byte| char::from(*byte))));
    id
}

/// A version 4 UUID.
pub fn uuid(rng: &mut Rng) -> String {
    let (high, low) = (rng.u64(..), rng.u64(..));
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        0x8000 | ((low >> 48) & 0x3fff),
        low & 0xffff_ffff_ffff,
    )
}
